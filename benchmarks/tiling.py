"""What tiles cost in time by their side, beside what their halo and the statistics explain."""

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hfdn_deploy import tiling
from hfdn_deploy.backends import TilingBackend
from hfdn_deploy.manifest import PRECISIONS
from hfdn_deploy.photographs import photographs
from hfdn_deploy.timing import measure
from hfdn_deploy.upscaler import Upscaler

SIDES = (64, 128, 256, 384, 512)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `python -m benchmarks tiling`."""
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=["fp32", "int8"])
    parser.add_argument("--side", type=int, default=1000, help="of the picture, in pixels")
    parser.add_argument("--rounds", type=int, default=3)


def main(args: argparse.Namespace) -> None:
    """Print a tiled run's time as a share of the whole's, median and middle half of the rounds."""
    photograph = photographs()["camera"] / np.float32(255)
    luma = np.resize(np.pad(photograph, 256, mode="reflect"), (args.side, args.side))
    print(
        "| precision | tile | pixels read | both passes | without statistics | over pixels read |\n"
        "|---|---|---|---|---|---|"
    )
    for precision in args.precision:
        with Upscaler.load(args.scale, args.backend, precision, tile=None) as up:
            assert isinstance(up.backend, TilingBackend)
            _print(precision, up.backend, luma, args.rounds)


def _print(precision: str, backend: TilingBackend, luma: NDArray[np.float32], rounds: int) -> None:
    plans = {side: tiling.plan(len(luma), len(luma[0]), side, backend.halo) for side in SIDES}
    runs: dict[str, Callable[[], object]] = {
        "whole": lambda: tiling.upscale_whole(backend, luma[None])
    }
    for side, tiles in plans.items():
        runs[f"{side}"] = partial(_upscale, backend, luma, tiles)
        runs[f"{side} statistics"] = partial(tiling.pooled_mean, backend, luma, tiles)
    found = measure(runs, rounds)
    whole = np.array(found["whole"].samples)
    for side, tiles in plans.items():
        both = np.array(found[f"{side}"].samples)
        alone = both - np.array(found[f"{side} statistics"].samples)
        read = sum(np.prod([part.stop - part.start for part in tile.read]) for tile in tiles)
        ratio = read / np.prod(luma.shape)
        cells = (_middle(both / whole), _middle(alone / whole), _middle(alone / whole / ratio))
        print(f"| {precision} | {side} | {ratio:.2f} | {' | '.join(cells)} |", flush=True)


def _upscale(
    backend: TilingBackend, luma: NDArray[np.float32], tiles: list[tiling.Tile]
) -> list[NDArray[np.float32]]:
    return list(tiling.upscale(backend, luma, tiles))


def _middle(values: NDArray[np.float64]) -> str:
    low, middle, high = np.percentile(values, [25, 50, 75])
    return f"{middle:.2f} ({low:.2f}–{high:.2f})"
