"""What values the tensors of a graph take on real pictures, and the ranges to quantise them to."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from tqdm import tqdm

from export.sessions import Array, open_outputs
from hfdn_deploy.bench import (
    PEAK,
    calibration_photographs,
    crop_to_multiple,
    degrade,
    load_luma_set,
    luma8,
)
from hfdn_deploy.errors import InputError

Range = tuple[float, float]
"""Lowest and highest value."""

# Side of the crops, in low-resolution pixels.
CROP = 64
# Of the images in a folder, one in so many is held out.
HELD_OUT_EVERY = 4
BINS = 4096
# Share of a tensor's values that the percentile calibrator keeps.
KEPT = 0.9999


@dataclass(frozen=True)
class Pair:
    """A crop of a picture in both resolutions."""

    lr: Array
    """Luma (1, 1, H, W) in [0, 1]."""
    original: NDArray[np.uint8]
    """Luma (sH, sW), 0..255."""


@dataclass(frozen=True)
class Pictures:
    """The pictures that quantisation works with."""

    calibration: tuple[Pair, ...]
    """Ranges are measured on these."""
    held_out: tuple[Pair, ...]
    """Choices are made on these."""


def load_pictures(folder: Path | None, scale: int) -> Pictures:
    """The centres of a folder's pictures, or by default of the photographs of scikit-image.

    Raises:
        InputError: no folder, fewer than two pictures, blank ones, or one that cannot be used.
    """
    if folder is None:
        calibration, held_out = (
            [luma8(image) for image in images.values()] for images in calibration_photographs()
        )
    else:
        if not folder.is_dir():
            raise InputError(f"{folder} is no folder; name a folder of pictures, or a bundle.")
        images = list(load_luma_set(folder).values())
        if len(images) < 2:
            raise InputError(f"{folder} holds one picture; calibration needs two or more.")
        held_out = images[::HELD_OUT_EVERY]
        calibration = [image for i, image in enumerate(images) if i % HELD_OUT_EVERY]
        if not any(image.std() for image in calibration):
            raise InputError(f"the pictures of {folder} are blank; calibrate with photographs.")
    pairs = [[_pair(image, scale) for image in images] for images in (calibration, held_out)]
    return Pictures(*map(tuple, pairs))


def _pair(image: NDArray[np.uint8], scale: int) -> Pair:
    """The centre of a picture."""
    hr = crop_to_multiple(image, scale)
    top, left = (max(n // scale - CROP, 0) // 2 * scale for n in hr.shape)
    hr = hr[top:, left:][: CROP * scale, : CROP * scale]
    return Pair((degrade(hr, scale) / PEAK).astype(np.float32)[None, None], hr)


@dataclass(frozen=True)
class Observation:
    """The values that a tensor took."""

    range: Range
    histogram: NDArray[np.int64]
    """Counts in `BINS` equal bins from -limit to +limit."""
    limit: float
    """The largest absolute value."""
    channel_means: NDArray[np.float64]
    """Mean of each channel."""


def observe(
    model: onnx.ModelProto, tensors: Sequence[str], pictures: Iterable[Pair]
) -> dict[str, Observation]:
    """Run a graph over pictures and keep what its tensors' values were."""
    run = open_outputs(model, tensors)
    inputs = [pair.lr for pair in pictures]
    lows, highs = dict.fromkeys(tensors, 0.0), dict.fromkeys(tensors, 0.0)
    for lr in inputs:
        for name, values in zip(tensors, run(lr), strict=True):
            lows[name] = min(lows[name], float(values.min()))
            highs[name] = max(highs[name], float(values.max()))
    limits = {name: max(-lows[name], highs[name], 1e-6) for name in tensors}
    counts = {name: np.zeros(BINS, np.int64) for name in tensors}
    means: dict[str, list[NDArray[np.float64]]] = {name: [] for name in tensors}
    for lr in tqdm(inputs, desc="calibration", unit="picture", disable=None, leave=False):
        for name, values in zip(tensors, run(lr), strict=True):
            limit = limits[name]
            counts[name] += np.histogram(values, BINS, (-limit, limit))[0]
            means[name].append(values.mean((0, 2, 3), dtype=np.float64))
    return {
        name: Observation(
            (lows[name], highs[name]), counts[name], limits[name], np.mean(means[name], 0)
        )
        for name in tensors
    }


def _min_max(seen: Observation) -> Range:
    """Everything that was seen."""
    return seen.range


def _percentile(seen: Observation) -> Range:
    """Without the largest and the smallest values, as many at either end."""
    share = np.cumsum(seen.histogram) / seen.histogram.sum()
    edges = np.linspace(-seen.limit, seen.limit, BINS + 1)
    low = edges[np.searchsorted(share, (1 - KEPT) / 2)]
    high = edges[np.searchsorted(share, (1 + KEPT) / 2) + 1]
    return max(float(low), seen.range[0]), min(float(high), seen.range[1])


def _entropy(seen: Observation) -> Range:
    """Clipped where the quantised distribution of absolute values tells most of the true one.

    S. Migacz, "8-bit inference with TensorRT", 2017: of all thresholds, the one with the least
    Kullback-Leibler divergence between the clipped histogram and its 128 levels.
    """
    levels = 128
    counts = (seen.histogram[BINS // 2 :] + seen.histogram[BINS // 2 - 1 :: -1]).astype(np.float64)
    best, kept = np.inf, len(counts)
    for size in range(levels, len(counts) + 1, 16):
        clipped = counts[:size].copy()
        clipped[-1] += counts[size:].sum()
        cuts = np.arange(levels) * size // levels
        filled = (counts[:size] > 0).astype(np.float64)
        total, cells = (np.add.reduceat(x, cuts) for x in (counts[:size], filled))
        level = np.repeat(total / np.maximum(cells, 1), np.diff([*cuts, size]))
        p, q = clipped / clipped.sum(), level * filled / max(counts[:size].sum(), 1)
        # A value that the levels cannot express counts as if it were almost impossible.
        divergence = float(np.sum(p[p > 0] * np.log(p[p > 0] / np.maximum(q[p > 0], 1e-12))))
        if divergence < best:
            best, kept = divergence, size
    limit = seen.limit * kept / len(counts)
    return max(seen.range[0], -limit), min(seen.range[1], limit)


def before_activation(seen: Observation, kept: Range, slope: float) -> Range:
    """The range of what a LeakyReLU reads, so that the error behind it is least.

    The activation multiplies negative values, and their error, by `slope`: they may be clipped
    for the sake of finer steps above zero. Expected square error, with steps of d: d² / 12 for
    what is kept, the distance for what is clipped, times slope² below zero.
    """
    centres = (np.arange(BINS) + 0.5) * (2 * seen.limit / BINS) - seen.limit
    share = seen.histogram / seen.histogram.sum()
    weights = np.where(centres < 0, slope**2, 1.0) * share
    low, high = kept

    def error(clipped: float) -> float:
        beyond = np.maximum(clipped - centres, 0.0)
        step = (high - clipped) / 255
        return float(weights @ np.where(beyond > 0, beyond**2, step**2 / 12))

    return min(np.linspace(low, 0.0, 64), key=error), high


CALIBRATORS: dict[str, Callable[[Observation], Range]] = {
    "min-max": _min_max,
    "percentile": _percentile,
    "entropy": _entropy,
}
