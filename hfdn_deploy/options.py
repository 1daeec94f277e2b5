"""Which model runs, on what and how: one record for every program that opens a model."""

import os
from dataclasses import dataclass
from typing import Literal

from hfdn_deploy.bundle import PRECISIONS
from hfdn_deploy.errors import InputError

Tile = int | Literal["auto"] | None
"""The side of a tile in low-resolution pixels, "auto", or None for the image whole."""


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """What `Upscaler.open` opens; can be pickled.

    Raises:
        InputError: there is no such precision, tile or amount of memory.
    """

    model: int | str | os.PathLike[str] = 4
    """A scale (2, 3 or 4: the bundle that comes with the package; "x4" too, if there is no such
    file), a bundle's directory, an engine (`.engine` or `.plan`, with its sidecar), or a
    `.safetensors` checkpoint (backend "torch")."""
    backend: str = "auto"
    """A name in `hfdn_deploy.backends.BACKENDS`, or "auto": the fastest measured one that can run
    the model here."""
    precision: str | None = None
    """Of `hfdn_deploy.bundle.PRECISIONS`, never replaced by another; None for fp32, or an engine's
    own."""
    ensemble: bool = False
    """HFDN+: average over the eight flips and rotations of the input; takes eight times as long."""
    tile: Tile = "auto"
    """The side of the tiles without their halo; "auto" for the image whole where that fits into
    `max_memory` (with "tensorrt": into the engine's profile), else the fastest tiles that do."""
    max_memory: int | None = None
    """Bytes that the upscaling of an image may take, in each thread; None for half of what is free
    when the model is opened, or, unless `tile` is "auto", all."""
    allow_ungated: bool = False
    """Run a graph of a bundle even if its quality gate is missing or failed."""
    trust: bool = False
    """Run an engine that this user did not build; it is native code."""

    def __post_init__(self) -> None:
        if self.precision not in (*PRECISIONS, None):
            known = ", ".join(PRECISIONS)
            raise InputError(f"there is no precision {self.precision!r}; choose one of {known}.")
