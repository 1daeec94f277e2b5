"""Memory that one upscaler holds after many images, each of a different size."""

import argparse
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import psutil

from hfdn_deploy.cli import positive
from hfdn_deploy.upscaler import Upscaler

# After this many sizes, everything that is set up once has been set up.
SETTLED = 200
SIDES = 8, 64


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `python -m benchmarks growth`."""
    parser.add_argument("--scale", type=int, default=2, choices=(2, 3, 4))
    parser.add_argument("--backend", nargs="+", default=["openvino", "onnxruntime"])
    parser.add_argument("--precision", nargs="+", default=["fp32", "int8"])
    parser.add_argument("--sizes", type=positive, default=2200)


def main(args: argparse.Namespace) -> None:
    """Print resident memory after 200 sizes and after all, one process per backend."""
    print(f"| backend | precision | after {SETTLED} sizes | after {args.sizes} | ratio |")
    print("|---|---|---|---|---|")
    for backend in args.backend:
        for precision in args.precision:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                found = pool.submit(resident, args.scale, backend, precision, args.sizes).result()
            first, last = found[min(SETTLED, args.sizes) - 1], found[-1]
            print(
                f"| {backend} | {precision} | {first / 2**20:.0f} MiB | {last / 2**20:.0f} MiB "
                f"| {last / first:.2f} |",
                flush=True,
            )


def resident(scale: int, backend: str, precision: str, number: int) -> list[int]:
    """Return this process's resident bytes after each of `number` images of different sizes."""
    least, most = SIDES
    sides = most - least + 1
    places = np.random.default_rng(0).choice(sides**2, number, replace=False)
    found = []
    with Upscaler.load(scale, backend, precision) as up:
        for place in places:
            up(np.zeros((least + place // sides, least + place % sides), np.uint8))
            found.append(psutil.Process().memory_info().rss)
    return found
