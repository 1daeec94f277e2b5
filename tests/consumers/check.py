"""Running of one graph in one consumer, and comparison of its pixels."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
_SECONDS = 600
_LONGEST = 200
"""Largest length of a reason, in characters."""


@dataclass(frozen=True)
class Outcome:
    """The result of a consumer with a graph."""

    loads: bool = False
    levels: int | None = None
    """Largest difference over all images; None if no image has the right shape."""
    dynamic: bool = False
    """Whether images of every size were upscaled."""
    reason: str = ""
    """The last line of the consumer's error message, if there is one."""

    def agrees(self, most: int) -> bool:
        """Return whether there is an image and no pixel differs by more than `most` levels."""
        return self.levels is not None and self.levels <= most

    def cells(self, most: int) -> list[str]:
        """Return the table's cells: loads, agrees, dynamic."""
        agrees = "no"
        if self.levels is not None:
            within = "yes" if self.agrees(most) else "no"
            agrees = f"{within}, to {self.levels}" if self.levels else "yes, exactly"
        return ["yes" if self.loads else "no", agrees, "yes" if self.dynamic else "no"]


def check(
    command: Sequence[str], graph: Path, images: Sequence[Pixels], expected: Sequence[Pixels]
) -> Outcome:
    """Upscale images (H, W, 3) of different sizes by a command, and compare them.

    Args:
        command: gets as arguments the graph, and for each image an input and an output file.
        graph: the ONNX file; other files are written beside it.
        images: if the graph has a fixed size, the first image has that size.
        expected: the upscaled images.
    """
    sources = [graph.with_name(f"in{number}.npy") for number in range(len(images))]
    targets = [graph.with_name(f"out{number}.npy") for number in range(len(images))]
    for source, target, image in zip(sources, targets, images, strict=True):
        np.save(source, image[None])
        target.unlink(missing_ok=True)
    files = [str(path) for pair in zip(sources, targets, strict=True) for path in pair]
    try:
        done = subprocess.run(
            [*command, str(graph), *files], timeout=_SECONDS, capture_output=True, text=True,
            errors="replace", stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Outcome(reason=f"took longer than {_SECONDS} s")
    found = [
        distance(np.load(target), wanted)
        for target, wanted in zip(targets, expected, strict=True)
        if target.is_file()
    ]
    fitting = [levels for levels in found if levels is not None]
    reason = ""
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        reason = lines[-1].strip()[:_LONGEST]
    elif len(fitting) < len(images):
        reason = "the output has another size or type"
    return Outcome(
        "loaded" in done.stdout.split(),
        max(fitting, default=None),
        len(fitting) == len(images),
        reason,
    )


def distance(image: Pixels, wanted: Pixels) -> int | None:
    """Return the largest difference in levels; None if the shape or the dtype differs."""
    if image.dtype != wanted.dtype or image.shape != (1, *wanted.shape):
        return None
    return int(np.abs(image[0].astype(int) - wanted).max())
