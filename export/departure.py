"""The departure of a graph from the network on one kind of image."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.sessions import Array, Run
from hfdn_deploy.bench import PEAK, psnr, to_levels
from hfdn_deploy.bundle import KindParity

# Differences, in levels of 255, beyond which pixels are counted.
LEVELS = (4, 8, 16, 32)


@dataclass(frozen=True)
class Sample:
    """An image that a graph is judged on."""

    lr: Array
    """Luma (1, 1, H, W) in [0, 1]."""
    original: NDArray[np.uint8] | None = None
    """(sH, sW) luma 0..255, if there is one."""


def departure(
    kind: str, samples: Sequence[Sample], run: Run, reference: Run, scale: int
) -> KindParity:
    """Compare a graph's outputs with the reference's, both clipped to 0..255 as when written.

    An output with NaN, or of another shape than the reference's, counts as 255 levels off.
    """
    squares, largest, steps = [], [], []
    beyond = dict.fromkeys(map(str, LEVELS), 0.0)
    pixels = 0
    decibels = []
    for sample in samples:
        output, expected = (_levels(x(sample.lr)) for x in (run, reference))
        if output.shape != expected.shape or not np.isfinite(output).all():
            output = expected + PEAK
        error = output - expected
        squares.append(float(np.mean(error**2)))
        largest.append(float(np.abs(error).max()))
        steps += [float(np.abs(np.diff(error, axis=i)).max(initial=0)) for i in (0, 1)]
        pixels += error.size
        for level in LEVELS:
            beyond[str(level)] += float((np.abs(error) > level).sum())
        if (original := sample.original) is not None:
            decibels.append([psnr(original, to_levels(x), scale) for x in (expected, output)])
    means = np.mean(decibels, 0) if decibels else None
    return KindParity(
        kind=kind,
        images=len(samples),
        rms_levels=float(np.sqrt(max(squares))),
        max_levels=max(largest),
        beyond={key: count / pixels for key, count in beyond.items()},
        banding_levels=max(steps),
        original_db=None if means is None else (float(means[0]), float(means[1])),
    )


def _levels(output: Array) -> NDArray[np.float64]:
    return np.asarray(np.clip(output[0, 0].astype(np.float64), 0, 1) * PEAK)
