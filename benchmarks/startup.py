"""Latency of the first image: imports, opening a model, its first run, the whole command."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
from tqdm import tqdm

from hfdn_deploy.bench import Measurement
from hfdn_deploy.cli import positive
from hfdn_deploy.images import write_image

COLUMNS = ("import", "load", "first call", "second call", "whole command")
# Runs in a new process, which prints the seconds of each step.
_STEPS = """
import json, sys
from time import perf_counter
backend, precision, scale, image = sys.argv[1:]
times = [perf_counter()]
import numpy as np
from hfdn_deploy import Upscaler
Upscaler.load
times.append(perf_counter())
up = Upscaler.load(int(scale), backend, precision)
times.append(perf_counter())
lr = np.load(image)
for _ in range(2):
    up(lr)
    times.append(perf_counter())
print(json.dumps(np.diff(times).tolist()))
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `python -m benchmarks startup`."""
    parser.add_argument("--scale", type=int, nargs="+", default=[2, 4], choices=(2, 3, 4))
    parser.add_argument("--precision", nargs="+", default=["fp32", "int8"])
    parser.add_argument("--rounds", type=positive, default=9)
    parser.add_argument("--json", type=Path, metavar="OUT", help="write every sample to a file")


def main(args: argparse.Namespace) -> None:
    """Print a table of medians (middle half); each round measures every row once."""
    rows = [
        (scale, backend, precision, kept)
        for scale in args.scale
        for precision in args.precision
        for backend, kept in (("onnxruntime", None), ("openvino", False), ("openvino", True))
    ]
    samples: dict[str, list[list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        # The first round fills the cache and is not counted.
        for number in tqdm(range(args.rounds + 1), unit="round"):
            for row in rows:
                seconds = start_seconds(Path(folder), *row)
                if number:
                    samples.setdefault(_name(*row), []).append(seconds)
    print(f"32×32, {args.rounds} rounds, {os.cpu_count()} CPUs; median (middle half)\n")
    print(f"| model | {' | '.join(COLUMNS)} |\n|{'---|' * (len(COLUMNS) + 1)}")
    for name, found in samples.items():
        cells = [str(Measurement(tuple(column))) for column in zip(*found, strict=True)]
        print(f"| {name} | {' | '.join(cells)} |")
    if args.json:
        args.json.write_text(json.dumps({"columns": COLUMNS, "seconds": samples}, indent=1) + "\n")


def _name(scale: int, backend: str, precision: str, kept: bool | None) -> str:
    words = {None: "", False: ", nothing kept", True: ", compiled graphs kept"}
    return f"×{scale}, {backend}, {precision}{words[kept]}"


def start_seconds(
    folder: Path, scale: int, backend: str, precision: str, kept: bool | None
) -> list[float]:
    """Return the seconds of each column, measured in new processes."""
    image, array = folder / "a.png", folder / "a.npy"
    if not image.exists():
        pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
        write_image(image, pixels)
        np.save(array, pixels)
    model = [backend, precision, str(scale)]
    steps = [sys.executable, "-c", _STEPS, *model, str(array)]
    command = [sys.executable, "-m", "hfdn_deploy", "upscale", "-q", str(image), "--force"]
    command += ["-o", str(folder / "b.png"), "--backend", backend, "--precision", precision]
    command += ["--scale", str(scale)]
    seconds: list[float] = json.loads(_output(steps, folder, kept))
    start = perf_counter()
    _output(command, folder, kept)
    return [*seconds, perf_counter() - start]


def _output(command: Sequence[str], folder: Path, kept: bool | None) -> bytes:
    with tempfile.TemporaryDirectory(dir=folder) as empty:
        cache = folder / "cache" if kept else Path(empty) / "cache"
        # Modules stay compiled, as in an installed package.
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder / "modules")}
        environment |= {"HFDN_CACHE": str(cache), "PYTHONDONTWRITEBYTECODE": ""}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return done.stdout
