"""Which model runs, on what and how, and to which size: records for every program."""

import math
import os
from dataclasses import dataclass
from numbers import Real
from typing import Literal

import numpy as np

from hfdn_deploy.bundle import PRECISIONS, pretrained_scales
from hfdn_deploy.errors import InputError

Tile = int | Literal["auto"] | None
"""The side of a tile in low-resolution pixels, "auto", or None for the image whole."""


# An image fills both sides of a size if that changes its proportions by less than this.
_ALMOST = 0.01


Size = tuple[int | None, int | None]
"""Width and height of a result in pixels, one of which may be None; see `TargetSize`."""


@dataclass(frozen=True, kw_only=True)
class TargetSize:
    """What an upscaled image measures: a multiple of the image, or pixels; can be pickled.

    Raises:
        InputError: a scale of 1 or less, a side of no pixel, both or neither.
    """

    scale: float | None = None
    """How many times as wide and high as the image."""
    width: int | None = None
    """In pixels; the height follows from the image's proportions unless it is given as well."""
    height: int | None = None
    """In pixels. With `width`, the result is the largest that keeps the image's proportions and
    fits inside, or just that size where it is less than 1 % off."""

    def __post_init__(self) -> None:
        sides = self.width, self.height
        if (self.scale is None) == (sides == (None, None)):
            raise InputError("a target size is either a scale or pixels; give one of them.")
        for side in sides:
            if side is not None and not (isinstance(side, Real) and side >= 1 and side % 1 == 0):
                raise InputError(f"a side of {side!r} pixels; give a whole number above 0.")
        if self.scale is not None and not (
            isinstance(self.scale, Real) and 1 < self.scale < math.inf
        ):
            raise InputError(f"a scale of {self.scale!r} upscales nothing; give one above 1.")

    def of(self, width: int, height: int, multiples: tuple[int, int] = (1, 1)) -> tuple[int, int]:
        """Return the width and height of the result for an image of this size.

        Args:
            width, height: of the image.
            multiples: what the width and height shall be multiples of, unless they are given as
                pixels or the scale is a whole number.
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
        """Return the same for an image that is shown turned by 90 degrees."""
        return TargetSize(scale=self.scale, width=self.height, height=self.width)

    def __str__(self) -> str:
        if self.scale is not None:
            return f"×{self.scale:g}"
        return f"{self.width or 'any width'}×{self.height or 'any height'}"


def target_of(size: Size | None, scale: float | None) -> TargetSize | None:
    """Return the target of an argument `size` or `scale`; None for neither.

    Raises:
        InputError: see `TargetSize`; or the size is no pair.
    """
    if size is None and scale is None:
        return None
    try:
        width, height = (None, None) if size is None else size
    except (TypeError, ValueError):
        raise InputError(
            f"a size of {size!r}", "give width and height, one of which may be None"
        ) from None
    return TargetSize(scale=scale, width=width, height=height)


def _side(exact: float, given: int | None, multiple: int) -> int:
    if given and exact >= given * (1 - _ALMOST):
        return int(given)
    return max(1, round(exact / multiple)) * multiple


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """What `Upscaler.open` opens; can be pickled.

    Raises:
        InputError: there is no such precision, tile or amount of memory.
    """

    model: int | str | os.PathLike[str] | None = None
    """A scale (2, 3 or 4: the bundle that comes with the package; "x4" too, if there is no such
    file), a bundle's directory, an engine (`.engine` or `.plan`, with its sidecar), or a
    `.safetensors` checkpoint (backend "torch"). None for the bundles that come with the package,
    each opened when a `target` first needs it; without a target, for scale 4."""
    target: TargetSize | None = None
    """What upscaled images measure; None for the model's scale."""
    backend: str = "auto"
    """A name in `hfdn_deploy.backends.BACKENDS`, or "auto": the fastest measured one that can run
    the model here. "tensorrt" takes the engine of a bundle from the user's cache, and builds it if
    need be."""
    precision: str | None = None
    """Of `hfdn_deploy.bundle.PRECISIONS`, never replaced by another; None for fp32, or an engine's
    own; "auto" for the fastest measured whose graph passed its gates, with this backend."""
    ensemble: bool = False
    """HFDN+: average over the eight flips and rotations of the input; takes eight times as long."""
    tile: Tile = "auto"
    """The side of the tiles without their halo; "auto" for the image whole where that fits into
    `max_memory` (with "tensorrt": into the engine's profile), else the fastest tiles that do, which
    take longer. The result is the same. An engine alone runs no tiles."""
    max_memory: int | None = None
    """Bytes that the upscaling of an image may take, in each thread; None for half of what is free
    when the model is opened, or, unless `tile` is "auto", all."""
    allow_ungated: bool = False
    """Run a graph of a bundle even if its quality gate is missing or failed."""
    trust: bool = False
    """Run an engine that this user did not build; it is native code."""

    def __post_init__(self) -> None:
        if self.precision not in (*PRECISIONS, "auto", None):
            known = ", ".join(("auto", *PRECISIONS))
            raise InputError(f"there is no precision {self.precision!r}; choose one of {known}.")


def model_and_scale(
    model: float | str | os.PathLike[str] | None,
) -> tuple[int | str | os.PathLike[str] | None, float | None]:
    """Return a model, and a target's scale for a number that no network has, such as 3.5 or 8."""
    if not isinstance(model, int | float | np.number):
        return model, None
    scale = int(model) if model % 1 == 0 else float(model)
    return (int(model), None) if model in pretrained_scales() else (None, scale)
