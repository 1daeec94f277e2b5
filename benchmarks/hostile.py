"""Effect of hostile requests to `hfdn serve` on the latency of honest ones and on memory."""

import argparse
import itertools
import json
import socket
import struct
import time
import zlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path

import numpy as np

from benchmarks.service import (
    PATH,
    SERVER,
    Load,
    format_report,
    memory_use,
    put_load,
    serving,
)
from hfdn_deploy.bench import photographs
from hfdn_deploy.errors import GateError
from hfdn_deploy.images import encode_image, png_chunk
from hfdn_deploy.upscaler import Upscaler

ROUNDS = 4  # with and without hostile requests alternate, so that drift affects both equally
PATIENCE = 0.3  # seconds until an impatient client disconnects
READER = 20.0  # seconds for which a slow client reads nothing of its response

Attack = Callable[[int], str]
"""A function that sends a request to a port and returns its outcome."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `python -m benchmarks hostile`."""
    parser.add_argument("--scale", type=int, default=4, help="scale of honest requests")
    parser.add_argument("--precision", default="int8", help="precision of honest requests")
    parser.add_argument("--side", type=int, default=64, help="side of honest images, in pixels")
    parser.add_argument("--clients", type=int, default=20, help="honest clients")
    parser.add_argument("--share", type=float, default=0.05, help="share of hostile requests")
    parser.add_argument("--seconds", type=float, default=60, help="duration with them, and without")
    parser.add_argument("--json", action="store_true")


def main(args: argparse.Namespace) -> None:
    """Print the report.

    Raises:
        GateError: an honest request got no answer, or a wrong or late one.
    """
    image = photographs()["coffee"][: args.side, : args.side]
    data = encode_image(image, Path("a.png"))
    with Upscaler.load(args.scale, precision=args.precision) as up:
        expected = encode_image(up(image), Path("a.png"))
    path = f"{PATH}?scale={args.scale}&precision={args.precision}"
    alone, among, seen = Load(), Load(), Counter[str]()
    with serving({}) as (port, process), ThreadPoolExecutor(64) as pool:
        attacks = itertools.cycle(make_attacks(photographs()["coffee"]).items())
        due = 0.0

        def attack(name: str, send: Attack) -> None:
            outcome = "no answer"
            with suppress(OSError):
                outcome = send(port)
            seen[f"{name}: {outcome}"] += 1

        def beside() -> None:
            nonlocal due
            due += args.share / (1 - args.share)
            if due >= 1:
                due -= 1
                pool.submit(attack, *next(attacks))

        for _ in range(ROUNDS):
            seconds = args.seconds / ROUNDS
            put_load(alone, port, process, path, data, expected, args.clients, seconds)
            put_load(among, port, process, path, data, expected, args.clients, seconds, beside)
    p99 = float(np.percentile(alone.latencies, 99))
    report = {
        "settings": {k: v for k, v in vars(args).items() if k not in ("main", "json")},
        "alone_statuses": dict(alone.statuses),
        "alone_latency_s": percentiles(alone.latencies),
        "among_statuses": dict(among.statuses),
        "among_latency_s": percentiles(among.latencies),
        "slowest_among_to_p99_alone": max(among.latencies) / p99,
        "later_than_twice_p99_alone": sum(seconds > 2 * p99 for seconds in among.latencies),
        "hostile": dict(sorted(seen.items())),
        "lost": alone.lost + among.lost,
        "wrong": alone.wrong + among.wrong,
        **memory_use(among.memory),
    }
    print(json.dumps(report, indent=1) if args.json else format_report(report))
    refused = sum(n for load in (alone, among) for code, n in load.statuses.items() if code != 200)
    bad = report["lost"] or report["wrong"] or refused or report["later_than_twice_p99_alone"]
    if bad:
        raise GateError("an honest request got no answer, or a wrong or late one; see the report.")


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Return the p50, the p99 and the largest of the latencies."""
    p50, p99 = (float(np.percentile(seconds, part)) for part in (50, 99))
    return {"p50": round(p50, 3), "p99": round(p99, 3), "most": round(max(seconds), 3)}


def make_attacks(photograph: np.ndarray) -> dict[str, Attack]:
    """Return hostile requests by name; they use the default model."""
    flat = encode_image(np.full((2048, 2048, 3), 90, np.uint8), Path("a.png"))
    small = encode_image(photograph[:128, :128], Path("a.png"))
    large = encode_image(np.tile(photograph, (2, 2, 1))[:480, :640], Path("a.png"))
    return {
        "69 bytes": lambda port: _post(port, long_png()),
        "flat": lambda port: _post(port, flat),
        "slow reader": lambda port: _hold(port, small, READER),
        "abandoned": lambda port: _hold(port, large, PATIENCE),
    }


def long_png() -> bytes:
    """Return a truncated PNG of 69 bytes that declares 1×4,194,304 pixels."""
    header = struct.pack(">IIBBBBB", 1, 2**22, 8, 2, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*one) for one in chunks)


def _post(port: int, data: bytes) -> str:
    connection = HTTPConnection(SERVER, port, timeout=120)
    connection.request("POST", PATH, data)
    return str(connection.getresponse().status)


def _hold(port: int, data: bytes, seconds: float) -> str:
    """Send a request, wait without reading the response, and disconnect."""
    with socket.create_connection((SERVER, port), timeout=120) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        head = f"POST {PATH} HTTP/1.1\r\nHost: {SERVER}\r\nContent-Length: {len(data)}\r\n\r\n"
        client.sendall(head.encode() + data)
        time.sleep(seconds)
    return "left"
