"""Options of a build: shapes, targets, flavour."""

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from hfdn_deploy.engines.flavour import FLAVOURS
from hfdn_deploy.errors import InputError

if TYPE_CHECKING:
    from hfdn_deploy.bundle import ModelFile

ENGINE_SUFFIXES = (".engine", ".plan")

Shape = tuple[int, int, int]
"""N, H, W of an input with one channel."""

CUSTOM = "custom"
"""Name of a profile with shapes given by the user."""


@dataclass(frozen=True)
class ShapeProfile:
    """A range of input shapes; kernels are chosen for `optimum`."""

    name: str
    minimum: Shape
    optimum: Shape
    maximum: Shape

    @classmethod
    def parse(cls, minimum: str, optimum: str, maximum: str) -> Self:
        """Return a profile of three shapes such as `320x180`, or `8x320x180` for a batch of eight.

        Raises:
            InputError: a shape is malformed.
        """
        return cls(CUSTOM, *map(_parse_shape, (minimum, optimum, maximum)))

    def holds(self, shape: Shape) -> bool:
        """Return whether the profile takes an input of this shape."""
        return all(
            low <= side <= high
            for low, side, high in zip(self.minimum, shape, self.maximum, strict=True)
        )

    def check(self, entry: "ModelFile") -> None:
        """Raise InputError unless the graph takes the shapes of this profile."""
        ranges = zip(self.minimum, self.optimum, self.maximum, strict=True)
        if not all(0 < low <= middle <= high for low, middle, high in ranges):
            raise InputError(
                f"profile {self} does not ascend from minimum to optimum to maximum; reorder it."
            )
        height, width = entry.minimum_size
        if self.minimum[1] < height or self.minimum[2] < width:
            raise InputError(
                f"profile {self} starts below the graph's smallest input, {width}x{height}; "
                "raise its minimum."
            )
        for name, axis, least, most in zip(
            "NHW", (0, 2, 3), self.minimum, self.maximum, strict=True
        ):
            fixed = entry.input.shape[axis]
            if isinstance(fixed, int) and (least, most) != (fixed, fixed):
                raise InputError(
                    f"profile {self} varies {name}, which the graph fixes to {fixed}; use {fixed}."
                )

    def __str__(self) -> str:
        shapes = (f"{n}x{w}x{h}" for n, h, w in (self.minimum, self.optimum, self.maximum))
        return f"{self.name} ({', '.join(shapes)})"


def _parse_shape(text: str) -> Shape:
    match = re.fullmatch(r"(?:(\d{1,4})x)?(\d{1,6})x(\d{1,6})", text, re.ASCII)
    if not match:
        raise InputError(f"{text!r} is not a shape; write WIDTHxHEIGHT, such as 320x180.")
    return int(match[1] or 1), int(match[3]), int(match[2])


def presets(scale: int) -> dict[str, ShapeProfile]:
    """Return the predefined profiles by name.

    `photo` takes any image up to 1024×1024 pixels, `720p` and `1080p` take frames whose output has
    that size or just covers it, and `tile` takes batches of up to eight tiles of up to 320×320.
    """
    hd, full_hd = (
        (1, math.ceil(height / scale), math.ceil(width / scale))
        for height, width in ((720, 1280), (1080, 1920))
    )
    profiles = [
        ShapeProfile("photo", (1, 1, 1), (1, 480, 640), (1, 1024, 1024)),
        _fixed("720p", hd),
        _fixed("1080p", full_hd),
        ShapeProfile("tile", (1, 1, 1), (4, 256, 256), (8, 320, 320)),
    ]
    return {profile.name: profile for profile in profiles}


def _fixed(name: str, shape: Shape) -> ShapeProfile:
    return ShapeProfile(name, shape, shape, shape)


@dataclass(frozen=True)
class BuildSpec:
    """Options of an engine: flavour, profiles, target GPUs and build settings."""

    flavour: str
    profiles: tuple[ShapeProfile, ...]
    targets: tuple[str, ...]
    """Compute capabilities, such as "sm89"."""
    hardware_compatible: bool = False
    """Whether the engine also runs on later GPUs (Ampere and up)."""
    version_compatible: bool = False
    """Whether the engine also runs with later versions of TensorRT."""
    strip_weights: bool = False
    """Leave out the weights, which are read from the bundle when the engine is opened."""
    optimization_level: int = 3
    """Effort of the search for kernels, 0 to 5."""
    workspace: int | None = None
    """Most bytes of scratch memory that a layer may use; None for no limit."""

    def check(self, entry: "ModelFile") -> None:
        """Raise InputError unless the flavour and the graph allow these options."""
        flavour = FLAVOURS[self.flavour]
        if not self.profiles:
            raise InputError("an engine needs a profile; name one.")
        for profile in self.profiles:
            profile.check(entry)
        for target in self.targets:
            if flavour.targets and target not in flavour.targets:
                known = ", ".join(flavour.targets)
                raise InputError(f"{flavour.title} has no target {target!r}; choose from {known}.")
        if (self.hardware_compatible or self.version_compatible) and not flavour.compatible_modes:
            raise InputError(
                f"{flavour.title} has no compatible modes; name several --target, and build again "
                "for another version."
            )
        if not 0 <= self.optimization_level <= 5:
            raise InputError(
                f"there is no optimization level {self.optimization_level}; choose 0 to 5."
            )
        if self.workspace is not None and not 0 < self.workspace < 2**63:
            raise InputError(f"a workspace of {self.workspace} bytes is invalid; name another.")

    def words(self) -> list[str]:
        """Return the options of `hfdn build` for this, without targets, level and workspace."""
        words = ["--flavour", self.flavour]
        for profile in self.profiles:
            if profile.name == CUSTOM:
                shapes = (profile.minimum, profile.optimum, profile.maximum)
                words += ["--shapes", *(f"{n}x{w}x{h}" for n, h, w in shapes)]
        if names := [profile.name for profile in self.profiles if profile.name != CUSTOM]:
            words += ["--profile", *names]
        for name in ("hardware_compatible", "version_compatible", "strip_weights"):
            if getattr(self, name):
                words.append(f"--{name.replace('_', '-')}")
        return words
