"""Throughput of `hfdn upscale --cluster ray` by workers, and an image's cost beside the network."""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from hfdn_deploy.bench import photographs
from hfdn_deploy.cli import positive
from hfdn_deploy.images import Banded, Image, ImagePlanes, decode_image, encode_image, write_image
from hfdn_deploy.options import ModelOptions
from hfdn_deploy.upscaler import Upscaler

# Height and width of the input for which the paper counts ×4, upscaled to 1280×720.
SIZE = (180, 320)
FORMATS = (".png", ".jpg", ".webp")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `python -m benchmarks scale`."""
    parser.add_argument(
        "--workers",
        type=positive,
        nargs="+",
        default=[1, 2],
        help="numbers of workers, a core each",
    )
    parser.add_argument("--images", type=positive, default=240)
    parser.add_argument(
        "--side", type=positive, default=128, help="side of the square images, in pixels"
    )
    parser.add_argument("--rounds", type=positive, default=3, help="rounds, each over all numbers")
    parser.add_argument("--scale", type=int, default=4, choices=(2, 3, 4))
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--json", action="store_true")


def main(args: argparse.Namespace) -> None:
    """Print the table by workers and the table by image format."""
    options = ModelOptions(model=args.scale, precision=args.precision)
    runs: dict[int, list[dict[str, float]]] = {number: [] for number in args.workers}
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder) / "in", args.images, args.side)
        for _ in range(args.rounds):
            for number, done in runs.items():
                done.append(measure(Path(folder), options, number))
    with Upscaler.open(options) as up:
        beside = [beside_the_network(up, suffix) for suffix in FORMATS]
    report = {
        "settings": {name: value for name, value in vars(args).items() if name != "main"},
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "runs": runs,
        "beside": beside,
    }
    print(json.dumps(report, indent=1) if args.json else format_report(report))


def write_images(folder: Path, number: int, side: int) -> None:
    """Write crops of photographs, no two alike."""
    rng = np.random.default_rng(0)
    for i in range(number):
        write_image(folder / f"{i:05}.png", _crop(rng, i, (side, side)))


def _crop(rng: np.random.Generator, number: int, size: tuple[int, int]) -> Image:
    large = [
        image
        for image in photographs().values()
        if image.ndim == 3 and image.shape[0] > size[0] and image.shape[1] > size[1]
    ]
    image = large[number % len(large)]
    top, left = (int(rng.integers(image.shape[axis] - size[axis])) for axis in (0, 1))
    return image[top : top + size[0], left : left + size[1]]


def measure(folder: Path, options: ModelOptions, workers: int) -> dict[str, float]:
    """Measure one run: images per second in the middle half, seconds, and the driver's CPU time.

    The first quarter is left out because workers are starting, the last because there may be too
    few images for all workers. The driver's CPU time is that of this process in the whole run,
    its start included.
    """
    from hfdn_deploy.cluster import plan, run

    start, busy = time.perf_counter(), time.process_time()
    planned = plan([str(folder / "in")], str(folder / "out"), force=True)
    times = [time.perf_counter() for _ in run(planned, options, workers=workers)]
    quarter = len(times) // 4
    steady = times[quarter : len(times) - quarter]
    return {
        "images_per_second": (len(steady) - 1) / (steady[-1] - steady[0]),
        "seconds": time.perf_counter() - start,
        "driver_ms_per_image": 1000 * (time.process_time() - busy) / len(times),
    }


def beside_the_network(up: Upscaler, suffix: str, number: int = 4) -> dict[str, Any]:
    """Measure the bytes and, without the network, the CPU milliseconds of an image of `SIZE`."""
    rng = np.random.default_rng(0)
    path = Path(f"a{suffix}")
    rows = []
    for i in range(number):
        data = encode_image(_crop(rng, i, SIZE), path)
        start = time.process_time()
        image = decode_image(data, path.name)
        picture = ImagePlanes(image)
        source = picture.luma
        before = time.process_time()
        luma = up.upscale_luma(source)
        after = time.process_time()
        bands = Banded((*luma.shape, *image.shape[2:]), image.dtype, picture.with_luma([luma]))
        written = encode_image(bands, path)
        seconds = before - start + time.process_time() - after
        rows.append((len(data), len(written), 1000 * seconds))
    given, made, milliseconds = map(float, np.median(rows, 0))
    return {"format": suffix, "bytes_in": given, "bytes_out": made, "cpu_ms": milliseconds}


def format_report(report: dict[str, Any]) -> str:
    """Return the tables of a report."""
    lines = [
        "| workers | images per second | × the first row | whole run, s | driver, ms per image |",
        "|---|---|---|---|---|",
    ]
    columns = {
        number: {name: np.array([run[name] for run in runs]) for name in runs[0]}
        for number, runs in report["runs"].items()
    }
    first = next(iter(columns.values()))["images_per_second"]
    for number, column in columns.items():
        rate = column["images_per_second"]
        lines.append(
            f"| {number} | {np.median(rate):.2f} ({min(rate):.2f} to {max(rate):.2f}) | "
            f"{np.median(rate / first):.2f} | {np.median(column['seconds']):.1f} | "
            f"{np.median(column['driver_ms_per_image']):.1f} |"
        )
    lines += ["", "| format | KB in | KB out | CPU ms beside the network |", "|---|---|---|---|"]
    lines += [
        f"| {row['format'][1:]} | {row['bytes_in'] / 1000:.0f} | {row['bytes_out'] / 1000:.0f} | "
        f"{row['cpu_ms']:.0f} |"
        for row in report["beside"]
    ]
    return "\n".join(lines)
