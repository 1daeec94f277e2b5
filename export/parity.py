"""Parity of a graph with its network, on shapes and inputs that are likely to show errors."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from export.departure import Sample, departure
from export.kinds import judged_images
from export.sessions import Array, Run
from hfdn_deploy.bench import PEAK, crop_to_multiple, degrade, luma8, photographs, psnr, to_levels
from hfdn_deploy.bundle import Gate, Parity, ParityCase
from hfdn_deploy.graph import FOR_OPENVINO

# Limits by graph, each on a figure of `compare`:
#   not_finite    outputs with NaN, infinity or another shape than the reference's
#   max_abs       largest absolute difference over the grid, on the scale 0..1
#   max_levels    the same in levels of 255
#   tiled_max_abs, tiled_levels  largest difference between the graph in tiles and in one go
#   psnr_loss_db  mean loss of the photographs in PSNR against their originals
#   expected_loss_db  mean of `expected_loss`, which is never negative, unlike a measured loss
#   largest_expected_loss_db  largest `expected_loss` of a photograph
#   KIND: FIGURE  a figure of `departure` on one of `KINDS`; `beyond_8` is the share of pixels that
#                 are more than 8 levels off
INT8_LOSSES = {"psnr_loss_db": 0.05, "expected_loss_db": 0.05}
# The kind that has originals.
DOWNSCALED = "downscaled photographs"
# The limits of photographs are requirements on INT8. The others keep shipped graphs from getting
# worse: `rms_levels` is 1.2 to 1.6 times the largest of a shipped graph, also for lines, dithering
# and noise; the shares are single pixels in shipped graphs, and up to 13 times as many may be.
KIND_LIMITS: dict[str, dict[str, float]] = {
    DOWNSCALED: {"max_levels": 16.0},
    "photographs": {"rms_levels": 1.3, "beyond_8": 1e-4, "beyond_16": 0.0},
    "text and screens": {"rms_levels": 1.8, "beyond_16": 2e-4},
    "text without antialiasing": {"rms_levels": 6.5},
    "drawings and comics": {"rms_levels": 1.4, "beyond_16": 1e-4},
    "screentones and rays": {"rms_levels": 11.0},
    "pixel art": {"rms_levels": 3.8, "beyond_32": 1e-4},
    "gradients": {"rms_levels": 0.8, "banding_levels": 2.5},
    "dark images": {"rms_levels": 0.6, "max_levels": 12.0},
    "one-pixel lines": {"rms_levels": 60.0},
    "dithering": {"rms_levels": 50.0},
    "noise": {"rms_levels": 16.0},
}
SHORTER = {
    "not_finite": 0.0,
    "tiled_levels": 1.0,
    **INT8_LOSSES,
    **{f"{kind}: {key}": x for kind, limits in KIND_LIMITS.items() for key, x in limits.items()},
}
GATES = {
    "fp32": {"not_finite": 0.0, "max_abs": 1e-4, "tiled_max_abs": 1e-5},
    "fp16": {"not_finite": 0.0, "max_levels": 1.0, "tiled_levels": 1.0, "psnr_loss_db": 0.01},
    **dict.fromkeys(("int8", "int8-cpu", *FOR_OPENVINO), SHORTER),
    # Users choose bf16 for speed, like INT8; it may lose as much, but on every single image.
    "bf16": {**SHORTER, "largest_expected_loss_db": 0.05},
}

SHAPES = {
    "1×1": (1, 1, 1, 1),
    "1×7": (1, 1, 1, 7),
    "7×1": (1, 1, 7, 1),
    "odd": (1, 1, 15, 33),
    "prime": (1, 1, 31, 37),
    "wide": (1, 1, 6, 160),
    "tall": (1, 1, 160, 6),
    "batch of 3": (3, 1, 16, 24),
}
# Height and width of the synthetic inputs and of the photographs' crops.
SIZE = (48, 64)
# The inputs that are also run in tiles: cut along one axis, along the other, and a photograph.
TILED = ("noise, wide", "noise, tall", "photograph camera")


@dataclass(frozen=True)
class Case:
    """One input of the parity grid."""

    name: str
    lr: Array
    """Luma (N, 1, H, W) in [0, 1]."""
    original: NDArray[np.uint8] | None = None
    """(sH, sW) luma 0..255 of a photograph."""


def grid(scale: int) -> list[Case]:
    """Return all inputs that a graph is judged on."""
    rng = np.random.default_rng(0)
    cases = [
        Case(f"noise, {name}", rng.random(shape, dtype=np.float32))
        for name, shape in SHAPES.items()
    ]
    row, column = np.indices(SIZE)
    synthetic = {
        "black": np.zeros(SIZE),
        "white": np.ones(SIZE),
        "noise": rng.random(SIZE),
        "step": column >= SIZE[1] // 2,
        "checkerboard": (row + column) % 2,
    }
    for name, picture in synthetic.items():
        cases.append(Case(name, picture.astype(np.float32)[None, None]))
    for name, photograph in photographs().items():
        hr = crop_to_multiple(luma8(photograph), scale)
        lr = (degrade(hr, scale) / PEAK).astype(np.float32)
        top, left = (max(n - size, 0) // 2 for n, size in zip(lr.shape, SIZE, strict=True))
        lr = lr[top : top + SIZE[0], left : left + SIZE[1]]
        hr = hr[scale * top :, scale * left :][: scale * lr.shape[0], : scale * lr.shape[1]]
        cases.append(Case(f"photograph {name}", np.ascontiguousarray(lr[None, None]), hr))
    return cases


def cached(run: Run) -> Run:
    """Return a function that computes each input once, as graphs are judged on the same inputs."""
    known: dict[tuple[tuple[int, ...], bytes], Array] = {}

    def remembered(lr: Array) -> Array:
        key = lr.shape, lr.tobytes()
        if key not in known:
            known[key] = run(lr)
        return known[key]

    return remembered


def compare(
    run: Run,
    in_tiles: Callable[[Array], list[Array]],
    reference: Run,
    scale: int,
    limits: Mapping[str, float],
) -> Parity:
    """Compare a graph's outputs with the reference's over the whole grid.

    Args:
        run: the graph.
        in_tiles: the graph in tiles; returns an output for each way of tiling.
        reference: the network, from `export.judge.reference`.
        scale: upscaling factor.
        limits: limits by figure, as in `GATES`.
    """
    cases, losses, expected_losses, tiled, downscaled = [], [], [], [], []
    digest = hashlib.sha256()
    bar = tqdm(grid(scale), desc="parity", unit="case", disable=None, leave=False)
    for case in bar:
        output, expected = run(case.lr), reference(case.lr)
        cases.append(_measure(case, output, expected))
        if case.name in TILED:
            tiled += [_measure(case, tiles, output).max_abs for tiles in in_tiles(case.lr)]
        if case.original is not None:
            digest.update(case.original.tobytes())
            downscaled.append(Sample(case.lr, case.original))
            if output.shape == expected.shape:
                before, after = (_psnr(case.original, x, scale) for x in (expected, output))
                losses.append(before - after)
                expected_losses.append(expected_loss(output, expected, case.original, scale))
    # NaN compares false with everything, so `max` needs a key that ranks it highest.
    worst = max(cases, key=lambda case: (np.isnan(case.max_abs), case.max_abs))
    kinds = []
    if any(f"{DOWNSCALED}: " in name for name in limits):
        kinds.append(departure(DOWNSCALED, downscaled, run, reference, scale))
        for kind, images in judged_images().items():
            kinds.append(departure(kind, list(map(Sample, images)), run, reference, scale))
    figures = {
        "not_finite": float(sum(not np.isfinite(case.max_abs) for case in cases)),
        "max_abs": worst.max_abs,
        "max_levels": worst.max_abs * PEAK,
        "tiled_max_abs": float(np.max(tiled)),
        "tiled_levels": float(np.max(tiled)) * PEAK,
        "expected_loss_db": float(np.mean(expected_losses)) if losses else float("nan"),
        "largest_expected_loss_db": max(expected_losses, default=float("nan")),
        "psnr_loss_db": float(np.mean(losses)) if losses else float("nan"),
    }
    for found in kinds:
        figures |= {
            f"{found.kind}: rms_levels": found.rms_levels,
            f"{found.kind}: max_levels": found.max_levels,
            f"{found.kind}: banding_levels": found.banding_levels,
            **{f"{found.kind}: beyond_{key}": share for key, share in found.beyond.items()},
        }
    gates = tuple(Gate(name, figures[name], limit) for name, limit in limits.items())
    passed = all(gate.value <= gate.limit for gate in gates)
    return Parity(passed, gates, digest.hexdigest(), worst, tuple(cases), tuple(kinds))


def expected_loss(
    output: Array, reference: Array, original: NDArray[np.uint8], border: int
) -> float:
    """Return the PSNR in dB that an image is expected to lose, 10 log10(1 + e / r).

    e is the mean square of `output - reference` in levels of 255, and r is that of
    `reference - original` plus 1/12 for rounding to whole levels. This is the loss if the error of
    quantisation is independent of the network's own error. A measured loss scatters around it by
    more than a layer costs, and may be negative.

    Args:
        output: output of a graph, (1, 1, H, W) in [0, 1].
        reference: output of the network, likewise.
        original: (H, W) luma 0..255.
        border: pixels to leave out on each side.
    """
    inner = slice(border, -border)
    got, wanted = (np.clip(x[0, 0, inner, inner], 0, 1) * PEAK for x in (output, reference))
    error = np.mean((got - wanted) ** 2, dtype=np.float64)
    residual = np.mean((wanted - original[inner, inner]) ** 2, dtype=np.float64)
    return float(10 * np.log10(1 + error / (residual + 1 / 12)))


def _psnr(original: NDArray[np.uint8], output: Array, scale: int) -> float:
    with np.errstate(invalid="ignore"):
        return psnr(original, to_levels(output[0, 0] * PEAK), scale)


def _measure(case: Case, output: Array, expected: Array) -> ParityCase:
    if output.shape != expected.shape:
        return ParityCase(case.name, case.lr.shape, float("nan"), float("nan"), None)
    difference = np.abs(output.astype(np.float64) - expected)
    worst = float(difference.max())
    flat = expected.reshape(-1, expected.shape[-1]) * PEAK
    decibels = psnr(output.reshape(flat.shape) * PEAK, flat) if worst else None
    return ParityCase(case.name, case.lr.shape, worst, float(difference.mean()), decibels)
