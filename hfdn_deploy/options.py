"""Records of what to upscale with, and to which size."""

import math
import os
from dataclasses import dataclass
from numbers import Real
from typing import Literal

import numpy as np

from hfdn_deploy.bundle import PRECISIONS, pretrained_scales
from hfdn_deploy.errors import InputError

Tile = int | Literal["auto"] | None
"""Side of a tile in low-resolution pixels, "auto", or None to run whole images."""


# Width and height are both met exactly if that changes the proportions by less than this.
_ALMOST = 0.01


Size = tuple[int | None, int | None]
"""Width and height of a result in pixels, one of which may be None; see `TargetSize`."""


@dataclass(frozen=True, kw_only=True)
class TargetSize:
    """Size of an upscaled image, as a scale or in pixels; can be pickled.

    Raises:
        InputError: the scale is 1 or less, a side is not a positive whole number, or both or
            neither of scale and pixels are given.
    """

    scale: float | None = None
    """Factor on the width and height of the image."""
    width: int | None = None
    """In pixels; without `height`, that follows from the image's proportions."""
    height: int | None = None
    """In pixels. With `width`, the result is the largest that fits inside and keeps the image's
    proportions, or exactly this size if they differ by less than 1 %."""

    def __post_init__(self) -> None:
        sides = self.width, self.height
        if (self.scale is None) == (sides == (None, None)):
            raise InputError("a target size needs either a scale or pixels; give one of them.")
        for side in sides:
            if side is not None and not (isinstance(side, Real) and side >= 1 and side % 1 == 0):
                raise InputError(f"a side cannot be {side!r} pixels; give a whole number above 0.")
        if self.scale is not None and not (
            isinstance(self.scale, Real) and 1 < self.scale < math.inf
        ):
            raise InputError(f"a scale of {self.scale!r} does not upscale; give one above 1.")

    def of(self, width: int, height: int, multiples: tuple[int, int] = (1, 1)) -> tuple[int, int]:
        """Return the width and height of the result for an image of this size.

        Args:
            width, height: of the image.
            multiples: numbers to round the width and height to multiples of, unless they are given
                in pixels or the scale is a whole number.
        """
        if self.scale is not None:
            factor: float = self.scale
            if factor % 1 == 0:
                return int(factor) * width, int(factor) * height
        else:
            pairs = (self.width, width), (self.height, height)
            factor = min(side / length for side, length in pairs if side)
        given = zip((width, height), (self.width, self.height), multiples, strict=True)
        wide, high = (_side(factor * length, side, multiple) for length, side, multiple in given)
        return wide, high

    def turned(self) -> "TargetSize":
        """Return the target with width and height exchanged, for an image turned by 90 degrees."""
        return TargetSize(scale=self.scale, width=self.height, height=self.width)

    def __str__(self) -> str:
        if self.scale is not None:
            return f"×{self.scale:g}"
        return f"{self.width or 'any width'}×{self.height or 'any height'}"


def target_of(size: Size | None, scale: float | None) -> TargetSize | None:
    """Return the target for the argument `size` or `scale`; None if both are None.

    Raises:
        InputError: `TargetSize` refuses the values, or `size` is not a pair.
    """
    if size is None and scale is None:
        return None
    try:
        width, height = (None, None) if size is None else size
    except (TypeError, ValueError):
        raise InputError(
            f"the size {size!r} is not a pair", "give width and height, one of which may be None"
        ) from None
    return TargetSize(scale=scale, width=width, height=height)


def _side(exact: float, given: int | None, multiple: int) -> int:
    if given and exact >= given * (1 - _ALMOST):
        return int(given)
    return max(1, round(exact / multiple)) * multiple


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Options of `Upscaler.open`; can be pickled.

    Raises:
        InputError: the precision is unknown.
    """

    model: int | str | os.PathLike[str] | None = None
    """A scale (2, 3 or 4, for the package's bundle; also "x4", if there is no such file), a
    bundle's directory, an engine (`.engine` or `.plan`, with its sidecar), or a `.safetensors`
    checkpoint (backend "torch"). None for the package's bundles, each opened when a `target` first
    needs it; without a target, the bundle for scale 4."""
    target: TargetSize | None = None
    """Size of upscaled images; None for the model's scale."""
    backend: str = "auto"
    """A name in `hfdn_deploy.backends.BACKENDS`, or "auto" for the fastest measured backend that
    can run the model here. "tensorrt" takes a bundle's engine from the user's cache and builds it
    if it is missing."""
    precision: str | None = None
    """One of `hfdn_deploy.bundle.PRECISIONS`, never replaced by another; None for fp32, or for an
    engine's own precision; "auto" for the backend's fastest measured precision whose graph passed
    its gates."""
    ensemble: bool = False
    """Average over the eight flips and rotations of the input (HFDN+), in eight times the time."""
    tile: Tile = "auto"
    """Side of the tiles without their halo. "auto" runs the whole image if it fits into
    `max_memory` (with "tensorrt", into the engine's profile), and otherwise the fastest tiles that
    fit, which take longer. The result is the same. An engine without a bundle runs no tiles."""
    max_memory: int | None = None
    """Bytes that the upscaling of an image may take, in each thread. None for half of the memory
    that is free when the model is opened, or for all of it unless `tile` is "auto"."""
    allow_ungated: bool = False
    """Run a bundle's graph even if its quality gate is missing or failed."""
    trust: bool = False
    """Run an engine that this user did not build; it is native code."""

    def __post_init__(self) -> None:
        if self.precision not in (*PRECISIONS, "auto", None):
            known = ", ".join(("auto", *PRECISIONS))
            raise InputError(f"there is no precision {self.precision!r}; choose one of {known}.")


def model_and_scale(
    model: float | str | os.PathLike[str] | None,
) -> tuple[int | str | os.PathLike[str] | None, float | None]:
    """Return the model and None, or None and the scale if no network has it, such as 3.5 or 8."""
    if not isinstance(model, int | float | np.number):
        return model, None
    scale = int(model) if model % 1 == 0 else float(model)
    return (int(model), None) if model in pretrained_scales() else (None, scale)
