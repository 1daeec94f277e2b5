"""Throughput on folders and videos: as `hfdn` runs them, and one image at a time."""

import argparse
import json
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from hfdn_deploy.bench import environment_facts, load_original, measure
from hfdn_deploy.cli import positive
from hfdn_deploy.files import Done, Job, run_jobs
from hfdn_deploy.images import write_image
from hfdn_deploy.upscaler import Upscaler
from hfdn_deploy.video import upscale_video, write_frames

SIZES = "64x64", "160x120", "320x180", "640x360"
KINDS = ".png", ".jpg", ".mp4"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `python -m benchmarks throughput`."""
    parser.add_argument("--scale", type=int, default=4, choices=(2, 3, 4))
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--size", nargs="+", default=SIZES, metavar="WIDTHxHEIGHT")
    parser.add_argument(
        "--kinds", nargs="+", default=KINDS, choices=KINDS, help="folders of images, or a video"
    )
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--pixels", type=positive, default=1_100_000, help="in all images of a run")
    parser.add_argument("--json", action="store_true")


def main(args: argparse.Namespace) -> None:
    """Print the median images per second of both ways, and their median ratio."""
    rows = []
    photograph = load_original(None)
    if not args.json:
        print("| size | kind | images | one at a time, images/s | images/s | ratio |")
        print("|---|---|---|---|---|---|")
    with (
        Upscaler.load(args.scale, args.backend, args.precision) as plain,
        Upscaler.load(args.scale, args.backend, args.precision) as up,
        TemporaryDirectory() as folder,
    ):
        for size in args.size:
            width, height = map(int, size.split("x"))
            number = max(4, -(-args.pixels // (width * height)))
            images = [_crop(photograph, width, height, i) for i in range(number)]
            for kind in args.kinds:
                run = _run(kind, images, Path(folder) / f"{size}{kind}")
                runs: dict[str, Callable[[], object]] = {
                    "one": partial(_one_at_a_time, run, plain),
                    "now": partial(run, up),
                }
                times = measure(runs, args.rounds)
                one, now = times["one"], times["now"]
                rows.append(
                    {
                        "size": size,
                        "kind": kind,
                        "images": number,
                        "seconds_one_at_a_time": one.samples,
                        "seconds": now.samples,
                    }
                )
                if not args.json:
                    per_second = (number / measured.percentile(50) for measured in (one, now))
                    shown = " | ".join(f"{value:.1f}" for value in per_second)
                    ratio = f"{one.ratio(now):.2f}"
                    print(f"| {size} | {kind} | {number} | {shown} | {ratio} |", flush=True)
        facts = {"choice": up.choice, "scale": args.scale, "environment": environment_facts()}
    if args.json:
        print(json.dumps({**facts, "rows": rows}, indent=1, default=str))
    else:
        print(f"\n×{args.scale}, {facts['choice']}")


def _crop(photograph: NDArray[np.uint8], width: int, height: int, number: int) -> NDArray[np.uint8]:
    moved = np.roll(photograph, (5 * number, 7 * number), (0, 1))
    return np.pad(moved, ((0, height), (0, width), (0, 0)), "symmetric")[:height, :width]


def _run(kind: str, images: list[NDArray[np.uint8]], folder: Path) -> Callable[[Upscaler], object]:
    """Return a function that upscales all images, written as files of a kind."""
    if kind == ".mp4":
        source = folder / "in.mp4"
        height, width = images[0].shape[:2]
        frames = ((image, Fraction(1, 25)) for image in images)
        write_frames(source, frames, (height, width))
        return lambda up: upscale_video(up, source, folder / "out.mp4")
    jobs = [
        Job(folder / f"{i}{kind}", folder / f"{i}_out{kind}", overwrite=True)
        for i in range(len(images))
    ]
    for job, image in zip(jobs, images, strict=True):
        write_image(job.source, image)
    return partial(_upscale_files, jobs)


def _upscale_files(jobs: list[Job], up: Upscaler) -> None:
    assert all(isinstance(result, Done) for result in run_jobs(up, jobs))


def _one_at_a_time(run: Callable[[Upscaler], object], up: Upscaler) -> None:
    def plan(
        shape: tuple[int, ...], held_as: str, _: int, target: object = None, *others: object
    ) -> tuple[object, int]:
        """Plan for one image at a time, with nothing prepared in advance."""
        return up.plan(shape, held_as, 1, None, target, *others), 1  # type: ignore[arg-type]

    with patch.object(up, "plan_many", plan):
        run(up)
