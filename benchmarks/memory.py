"""Peak memory of an upscaling per output pixel, each size in a process of its own."""

import argparse
import resource
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from hfdn_deploy.upscaler import Upscaler

SIZES = ((64, 64), (180, 320), (360, 640))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `python -m benchmarks memory`."""
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--bundle", type=Path, help="instead of the package's")


def main(args: argparse.Namespace) -> None:
    """Print the growth of the peak resident size over the smallest input's."""
    model = args.bundle or args.scale
    peaks = []
    for size in SIZES:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            peaks.append(pool.submit(_peak, model, size).result())
    scale, base = peaks[0]
    print("| input | peak | bytes per output pixel more than at 64×64 |\n|---|---|---|")
    for (height, width), (_, peak) in zip(SIZES, peaks, strict=True):
        pixels = (height * width - SIZES[0][0] * SIZES[0][1]) * scale**2
        each = f"{(peak - base) / pixels:.0f}" if pixels else "-"
        print(f"| {width}×{height} | {peak / 2**20:.0f} MiB | {each} |")


def _peak(model: int | Path, size: tuple[int, int]) -> tuple[int, int]:
    """Scale, and peak resident bytes of a process that upscales noise once."""
    with Upscaler.load(model) as up:
        up(np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8))
        return up.scale, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
