"""Memory growth of `hfdn serve` over many requests of mixed sizes for every model."""

import argparse
import time
from http.client import HTTPConnection
from pathlib import Path

import numpy as np

from benchmarks.service import PATH, SERVER, format_report, serving
from hfdn_deploy.bench import photographs
from hfdn_deploy.errors import GateError
from hfdn_deploy.images import encode_image

PARTS = 10
IDLE = 3.0  # seconds without a request before memory is read
GROWTH = 1.1  # largest ratio that does not count as growth


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `python -m benchmarks soak`."""
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--largest", type=int, default=240, help="largest side, in pixels")


def main(args: argparse.Namespace) -> None:
    """Print resident memory after each tenth of the requests.

    Raises:
        GateError: memory grew after the third tenth, or a request was not answered 200.
    """
    image = photographs()["coffee"]
    random = np.random.default_rng(0)
    resident = []
    with serving({}) as (port, process):
        connection = HTTPConnection(SERVER, port, timeout=120)
        start = time.perf_counter()
        for number in range(args.requests):
            height, width = random.integers(8, args.largest + 1, 2)
            data = encode_image(image[:height, :width], Path("a.png"))
            scale, precision = 2 + number % 3, ("fp32", "int8")[number // 3 % 2]
            connection.request("POST", f"{PATH}?scale={scale}&precision={precision}", data)
            answer = connection.getresponse()
            if answer.status != 200:
                raise GateError(
                    f"a request of {width}×{height} pixels was answered {answer.status}."
                )
            answer.read()
            if (number + 1) % max(1, args.requests // PARTS) == 0:
                time.sleep(IDLE)
                resident.append(process.memory_info().rss / 2**20)
        seconds = time.perf_counter() - start
    report = {"requests": args.requests, "seconds": seconds, "idle_memory_mib": resident}
    print(format_report(report))
    if resident[-1] > GROWTH * resident[2]:
        raise GateError("idle memory grew; see the report.")
