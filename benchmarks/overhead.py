"""Share of an upscaling's latency that is spent outside the backend."""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hfdn_deploy.bench import measure, photographs, prepare
from hfdn_deploy.cli import positive
from hfdn_deploy.upscaler import Upscaler

SIZE = (180, 320)


class TimedRun:
    """A wrapper of a backend's `run` that records the seconds of each call."""

    def __init__(self, run: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> None:
        self._run = run
        self.seconds: list[float] = []

    def __call__(self, lr: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run as `Backend.run` does, and record the seconds."""
        start = time.perf_counter()
        try:
            return self._run(lr)
        finally:
            self.seconds.append(time.perf_counter() - start)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `python -m benchmarks overhead`."""
    parser.add_argument("--scale", type=int, default=4, choices=(2, 3, 4))
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--rounds", type=positive, default=20)
    parser.add_argument("--json", action="store_true")


def main(args: argparse.Namespace) -> None:
    """Print the share of the latency outside the backend, for grey, RGB and RGBA."""
    colour = photographs()["coffee"][: SIZE[0], : SIZE[1]]
    opaque = np.full((*SIZE, 1), 255, np.uint8)
    images = {"grey": colour[..., 0], "RGB": colour, "RGBA": np.dstack([colour, opaque])}
    with Upscaler.load(args.scale, args.backend, args.precision) as up:
        prepare(up, colour.shape)
        timed = TimedRun(up.backend.run)
        up.backend.run = timed  # type: ignore[method-assign]
        whole = measure({kind: partial(up, x) for kind, x in images.items()}, args.rounds)
    rows = {}
    for i, (kind, measurement) in enumerate(whole.items()):
        inside = np.array(timed.seconds[-len(images) * args.rounds :][i :: len(images)])
        shares = 1 - inside / np.array(measurement.samples)
        rows[kind] = {
            "seconds": measurement.samples,
            "seconds_in_backend": inside.tolist(),
            "share_outside": float(np.median(shares)),
        }
    if args.json:
        print(json.dumps(rows, indent=1))
        return
    print(f"×{args.scale}, {SIZE[1]}×{SIZE[0]} pixels, {up.choice}, {args.rounds} rounds\n")
    print("| image | whole call: median (middle half) | outside the backend |\n|---|---|---|")
    for kind, measurement in whole.items():
        print(f"| {kind} | {measurement} | {100 * rows[kind]['share_outside']:.1f} % |")
