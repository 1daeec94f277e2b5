"""Latency of tiled runs by tile size, beside the extra work that explains it."""

import argparse
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from export.layers import layer_macs
from hfdn_deploy import tiling
from hfdn_deploy.backends import Backend, SplitNetwork, Tiling
from hfdn_deploy.bench import measure, photographs
from hfdn_deploy.bundle import PRECISIONS, pretrained
from hfdn_deploy.cli import positive
from hfdn_deploy.graph import pooled_tensor, statistics_graph
from hfdn_deploy.upscaler import Upscaler


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `python -m benchmarks tiling`."""
    parser.add_argument("--scale", type=int, default=2, choices=(2, 3, 4))
    parser.add_argument("--model", type=Path, help="bundle or checkpoint instead of the package's")
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=["fp32", "int8"])
    parser.add_argument("--tile", nargs="+", type=positive, default=[64, 128, 256, 384, 512])
    parser.add_argument("--side", type=positive, default=1000, help="side of the image, in pixels")
    parser.add_argument("--rounds", type=positive, default=3)


def main(args: argparse.Namespace) -> None:
    """Print a tiled run's latency as a multiple of the whole image's, median and middle half.

    The expected multiple follows from the pixels that are read and, if features are computed
    twice, from the multiply-accumulates of the part of the network that computes them.
    """
    photograph = photographs()["camera"] / np.float32(255)
    luma = np.resize(np.pad(photograph, 256, mode="reflect"), (args.side, args.side))
    print(
        "| precision | tile | pixels read, × whole | features kept, × whole | ÷ pixels read "
        "| expected if computed twice | computed twice, × whole | ÷ expected |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    for precision in args.precision:
        # Each way has its own sessions, so that none frees memory of another.
        with ExitStack() as stack:
            backends = []
            for _ in range(3):
                model = args.model or args.scale
                up = Upscaler.load(model, args.backend, precision, tile=None)
                backends.append(stack.enter_context(up).backend)
            _print(precision, backends, luma, args)


def _print(
    precision: str, backends: list[Backend], luma: NDArray[np.float32], args: argparse.Namespace
) -> None:
    whole, *others = backends
    keeping, twice = (backend.tiling for backend in others)
    assert keeping
    assert twice
    runs: dict[str, Callable[[], object]] = {
        "whole": partial(tiling.upscale_whole, whole, luma[None])
    }
    height, width = luma.shape
    cuts = {side: tiling.cut(height, width, side, twice.halo) for side in args.tile}
    for side, tiles in cuts.items():
        if keeping.split:
            runs[f"{side} kept"] = partial(_upscale, keeping, luma, tiles, keeping.split)
        runs[f"{side} twice"] = partial(_upscale, twice, luma, tiles, None)
    found = measure(runs, args.rounds)
    again = _share_before_mean(whole.scale)
    for side, tiles in cuts.items():
        read = sum(np.prod([part.stop - part.start for part in tile.read]) for tile in tiles)
        ratio = read / luma.size
        cells = []
        for name, work in ((f"{side} kept", ratio), (f"{side} twice", ratio * (1 + again))):
            shares = found[name].ratios(found["whole"]) if name in found else np.array([np.nan])
            cells += [f"{work:.2f}", _middle(shares), _middle(shares / work)]
        print(f"| {precision} | {side} | {' | '.join(cells)} |", flush=True)


def _share_before_mean(scale: int) -> float:
    """Return the share of multiply-accumulates before the mean, in the package's network."""
    model = onnx.load_model_from_string(pretrained(scale).read_model("fp32"))
    pooled = pooled_tensor(model)
    assert pooled is not None
    first = statistics_graph(model, pooled)
    return sum(layer_macs(first).values()) / sum(layer_macs(model).values())


def _upscale(
    parts: Tiling,
    luma: NDArray[np.float32],
    tiles: list[tiling.Tile],
    split: SplitNetwork | None,
) -> list[NDArray[np.float32]]:
    return list(tiling.upscale(parts, luma, tiles, split=split))


def _middle(values: NDArray[np.float64]) -> str:
    low, middle, high = np.percentile(values, [25, 50, 75])
    return f"{middle:.2f} ({low:.2f}–{high:.2f})"
