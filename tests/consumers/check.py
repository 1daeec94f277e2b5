"""Run one graph in one consumer, and compare its pixels."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
_SECONDS = 600
_LONGEST = 200
"""Characters of a reason."""


@dataclass(frozen=True)
class Outcome:
    """What a consumer made of a graph."""

    loads: bool = False
    levels: int | None = None
    """Largest difference over all images; None if there is none of the right shape."""
    dynamic: bool = False
    """Each image was upscaled, of whatever size."""
    reason: str = ""
    """The last line of its complaint, if it made one."""

    def agrees(self, most: int) -> bool:
        """It gave an image, and no pixel differs by more than so many levels."""
        return self.levels is not None and self.levels <= most

    def cells(self, most: int) -> list[str]:
        """Loads, agrees, dynamic: as the table says it."""
        agrees = "no"
        if self.levels is not None:
            within = "yes" if self.agrees(most) else "no"
            agrees = f"{within}, to {self.levels}" if self.levels else "yes, exactly"
        return ["yes" if self.loads else "no", agrees, "yes" if self.dynamic else "no"]


def check(
    command: Sequence[str], graph: Path, images: Sequence[Pixels], expected: Sequence[Pixels]
) -> Outcome:
    """Have a command upscale images (H, W, 3), each of another size.

    Args:
        command: is given the graph, and a file to read and one to write for each image.
        graph: the ONNX file; what else is written lies beside it.
        images: the first is of the graph's size, if that is fixed.
        expected: what should come of them.
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
        reason = "gives an image of another size or type"
    return Outcome(
        "loaded" in done.stdout.split(),
        max(fitting, default=None),
        len(fitting) == len(images),
        reason,
    )


def distance(image: Pixels, wanted: Pixels) -> int | None:
    """Largest difference of a pixel, in levels; None if the shape or the dtype is another."""
    if image.dtype != wanted.dtype or image.shape != (1, *wanted.shape):
        return None
    return int(np.abs(image[0].astype(int) - wanted).max())
