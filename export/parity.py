"""Is a graph the network it was made from? Judged on shapes and inputs that break things."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from export.sessions import Array, Run
from hfdn_deploy.bench import PEAK, crop_to_multiple, degrade, luma8, photographs, psnr, to_levels
from hfdn_deploy.bundle import Gate, Parity, ParityCase
from hfdn_deploy.graph import FOR_OPENVINO
from hfdn_deploy.network import HFDN

# Limits by graph, each on a figure of `compare`:
#   not_finite    outputs with NaN, infinity or another shape than the reference's
#   max_abs       largest absolute difference over the grid, on the scale 0..1
#   max_levels    the same in levels of 255
#   photograph_levels  the same over the photographs alone: 8 bits with ranges for pictures
#                 clip the features of noise and of a checkerboard
#   tiled_max_abs, tiled_levels  largest difference between the graph in tiles and in one go
#   psnr_loss_db  what the photographs lose, on average, in PSNR against their originals
#   expected_loss_db  the `expected_loss` of the photograph that loses most; unlike a measured loss
#                 it is never negative
INT8_LOSSES = {"psnr_loss_db": 0.05, "expected_loss_db": 0.05}
SHORTER = {"not_finite": 0.0, "photograph_levels": 32.0, "tiled_levels": 1.0, **INT8_LOSSES}
GATES = {
    "fp32": {"not_finite": 0.0, "max_abs": 1e-4, "tiled_max_abs": 1e-5},
    "fp16": {"not_finite": 0.0, "max_levels": 1.0, "tiled_levels": 1.0, "psnr_loss_db": 0.01},
    **dict.fromkeys(("int8", "int8-cpu", *FOR_OPENVINO), SHORTER),
    # bf16 is chosen for what INT8 is chosen for, speed, and so may cost as much.
    "bf16": SHORTER,
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
# The inputs that are run in tiles, too: cut along one axis, along the other, and a picture.
TILED = ("noise, wide", "noise, tall", "photograph camera")


@dataclass(frozen=True)
class Case:
    """One input of the parity grid."""

    name: str
    lr: Array
    """Luma (N, 1, H, W) in [0, 1]."""
    original: NDArray[np.uint8] | None = None
    """Of a photograph, (sH, sW) luma 0..255."""


def grid(scale: int) -> list[Case]:
    """All inputs that a graph is judged on."""
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


def reference(network: HFDN) -> Run:
    """The network in PyTorch as a function of arrays, which computes each input once.

    The grid comes back for every graph of a bundle.
    """
    known: dict[tuple[tuple[int, ...], bytes], Array] = {}

    def run(lr: Array) -> Array:
        key = lr.shape, lr.tobytes()
        if key not in known:
            with torch.inference_mode():
                known[key] = np.asarray(network(torch.from_numpy(lr)).numpy())
        return known[key]

    return run


def compare(
    run: Run,
    in_tiles: Callable[[Array], list[Array]],
    reference: Run,
    scale: int,
    limits: Mapping[str, float],
) -> Parity:
    """Hold a graph's outputs to the reference's over the whole grid.

    Args:
        run: the graph.
        in_tiles: the same, put together from tiles in every way there is.
        reference: the network, as `reference` gives it.
        scale: upscaling factor.
        limits: by figure, as in `GATES`.
    """
    cases, losses, tiled = [], [], []
    photographed = expected_db = 0.0
    digest = hashlib.sha256()
    bar = tqdm(grid(scale), desc="parity", unit="case", disable=None, leave=False)
    for case in bar:
        output, expected = run(case.lr), reference(case.lr)
        cases.append(_measure(case, output, expected))
        if case.name in TILED:
            tiled += [_measure(case, tiles, output).max_abs for tiles in in_tiles(case.lr)]
        if case.original is not None:
            digest.update(case.original.tobytes())
            photographed = max(photographed, cases[-1].max_abs)
            if output.shape == expected.shape:
                before, after = (_psnr(case.original, x, scale) for x in (expected, output))
                losses.append(before - after)
                lost = expected_loss(output, expected, case.original, scale)
                expected_db = max(expected_db, lost)
    # NaN compares false with everything, so it must not be what `max` starts from.
    worst = max(cases, key=lambda case: (np.isnan(case.max_abs), case.max_abs))
    figures = {
        "not_finite": float(sum(not np.isfinite(case.max_abs) for case in cases)),
        "max_abs": worst.max_abs,
        "max_levels": worst.max_abs * PEAK,
        "tiled_max_abs": float(np.max(tiled)),
        "tiled_levels": float(np.max(tiled)) * PEAK,
        "photograph_levels": photographed * PEAK,
        "expected_loss_db": expected_db,
        "psnr_loss_db": float(np.mean(losses)) if losses else float("nan"),
    }
    gates = tuple(Gate(name, figures[name], limit) for name, limit in limits.items())
    passed = all(gate.value <= gate.limit for gate in gates)
    return Parity(passed, gates, digest.hexdigest(), worst, tuple(cases))


def expected_loss(
    output: Array, reference: Array, original: NDArray[np.uint8], border: int
) -> float:
    """The PSNR in dB that a picture loses, 10 log10(1 + e / r).

    e is the mean square of `output - reference` in levels of 255, r that of
    `reference - original` and of rounding to whole levels, 1/12: what is lost if the error of
    quantisation knows nothing of the network's own. A measured loss scatters around this by more
    than a layer costs, and may be negative.

    Args:
        output: what a graph gives, (1, 1, H, W) in [0, 1].
        reference: what the network gives.
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
