"""How much of an upscaling is spent outside the backend."""

import argparse
import json
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from hfdn_deploy.backends import OnnxRuntimeBackend
from hfdn_deploy.bench import measure, photographs
from hfdn_deploy.cli import positive
from hfdn_deploy.upscaler import Upscaler

SIZE = (180, 320)


class TimedSession:
    """An ONNX Runtime session that adds up the seconds spent in its `run`."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.seconds: list[float] = []

    def run(self, names: list[str] | None, feeds: Mapping[str, Any]) -> Any:
        """As the session's own."""
        start = time.perf_counter()
        try:
            return self._session.run(names, feeds)
        finally:
            self.seconds.append(time.perf_counter() - start)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `python -m benchmarks overhead`."""
    parser.add_argument("--scale", type=int, default=4, choices=(2, 3, 4))
    parser.add_argument("--rounds", type=positive, default=20)
    parser.add_argument("--json", action="store_true")


def main(args: argparse.Namespace) -> None:
    """Print, for grey, RGB and RGBA, the share of the time outside the session's own run."""
    colour = photographs()["coffee"][: SIZE[0], : SIZE[1]]
    opaque = np.full((*SIZE, 1), 255, np.uint8)
    images = {"grey": colour[..., 0], "RGB": colour, "RGBA": np.dstack([colour, opaque])}
    with Upscaler.load(args.scale, "onnxruntime") as up:
        assert isinstance(up.backend, OnnxRuntimeBackend)
        timed = TimedSession(up.backend.session)
        up.backend.session = timed
        whole = measure({kind: partial(up, x) for kind, x in images.items()}, args.rounds)
    rows = {}
    for i, (kind, measurement) in enumerate(whole.items()):
        inside = np.array(timed.seconds[i :: len(images)][-args.rounds :])
        shares = 1 - inside / np.array(measurement.samples)
        rows[kind] = {
            "seconds": measurement.samples,
            "seconds_in_session": inside.tolist(),
            "share_outside": float(np.median(shares)),
        }
    if args.json:
        print(json.dumps(rows, indent=1))
        return
    print(f"×{args.scale}, {SIZE[1]}×{SIZE[0]} pixels, {up.choice}, {args.rounds} rounds\n")
    print("| image | whole call: median (middle half) | outside the session's run |\n|---|---|---|")
    for kind, measurement in whole.items():
        print(f"| {kind} | {measurement} | {100 * rows[kind]['share_outside']:.1f} % |")
