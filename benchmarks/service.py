"""Load test of `hfdn serve` over loopback: throughput against offline runs, latency, memory."""

import argparse
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import psutil

from hfdn_deploy.bench import photographs
from hfdn_deploy.errors import GateError, HFDNError
from hfdn_deploy.images import decode_image, encode_image
from hfdn_deploy.upscaler import Upscaler

SERVER = "127.0.0.1"
PATH = "/v1/upscale"
WARM_UP = 5.0  # seconds of load before anything counts, in each round
ROUNDS = 4  # offline and service alternate, so that drift affects both equally
MOST_SECONDS = 600.0
MOST_REQUESTS = 100_000


@dataclass
class Load:
    """Observations in chronological order."""

    offline: list[float] = field(default_factory=list)
    """Images per second without a service, by round."""
    service: list[float] = field(default_factory=list)
    """Images per second through the service, by round."""
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    """Seconds, for answers with status 200."""
    wrong: int = 0
    """Answers with status 200 whose image differs from the offline run's."""
    lost: int = 0
    """Requests without any answer."""
    memory: list[int] = field(default_factory=list)
    """Resident bytes of the server, sampled every second."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `python -m benchmarks service`."""
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--side", type=int, default=64, help="side of the images, in pixels")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--queue", type=int, default=16)
    parser.add_argument("--clients", type=int, default=20, help="clients, to fill the queue")
    parser.add_argument("--seconds", type=float, default=60, help="duration of load, at most 600")
    parser.add_argument("--json", action="store_true")


def main(args: argparse.Namespace) -> None:
    """Print the report.

    Raises:
        GateError: a request was lost or answered wrongly.
    """
    seconds = min(args.seconds, MOST_SECONDS) / ROUNDS
    picture = photographs()["coffee"][: args.side, : args.side]
    data = encode_image(picture, Path("a.png"))
    load = Load()
    options = {"batch": args.batch, "queue": args.queue}
    options |= {"scale": args.scale, "precision": args.precision}
    with Upscaler.load(args.scale, precision=args.precision) as up, serving(options) as server:
        expected = encode_image(up(picture), Path("a.png"))
        for _ in range(ROUNDS):
            load.offline.append(offline(up, data, seconds / 2))
            before = len(load.latencies)
            put_load(load, *server, PATH, data, expected, args.clients, seconds)
            load.service.append((len(load.latencies) - before) / seconds)
    report = summarise(args, load)
    print(json.dumps(report, indent=1) if args.json else format_report(report))
    if load.lost or load.wrong:
        raise GateError(
            f"{load.lost} requests got no answer and {load.wrong} got a wrong answer; see the log "
            "of the service."
        )


def offline(up: Upscaler, data: bytes, seconds: float) -> float:
    """Return the images per second of a plain loop of decode, upscale and encode."""
    count, start = 0, time.perf_counter()
    while (now := time.perf_counter()) < start + seconds or not count:
        encode_image(up(decode_image(data, "a.png")), Path("a.png"))
        count += 1
    return count / (now - start)


@contextmanager
def serving(options: Mapping[str, object]) -> Iterator[tuple[int, psutil.Process]]:
    """Run `hfdn serve` with these options in a new process; yields its port and the process."""
    command = [sys.executable, "-m", "hfdn_deploy", "serve", "--port", "0"]
    command += [text for name, value in options.items() for text in (f"--{name}", str(value))]
    environment = {k: v for k, v in os.environ.items() if k != "HFDN_TOKEN"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr
    try:
        port = next((int(m[1]) for line in process.stderr if (m := _PORT.search(line))), None)
        if port is None:
            raise HFDNError("hfdn serve did not start; run it by hand to see why.")
        # The server would block on a full pipe if its log were not read.
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield port, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


_PORT = re.compile(r"serving on http://[^ ]*:(\d+)")


def put_load(
    load: Load,
    port: int,
    process: psutil.Process,
    path: str,
    data: bytes,
    expected: bytes,
    clients: int,
    seconds: float,
    beside: Callable[[], object] = lambda: None,
) -> None:
    """Let `clients` clients send an image repeatedly; only a loss or error counts in the warm-up.

    `beside` is called before each request.
    """
    start = time.perf_counter() + WARM_UP
    lock = threading.Lock()

    def send(_: int) -> None:
        connection = HTTPConnection(SERVER, port, timeout=120)
        for _ in range(MOST_REQUESTS // clients):
            sent = time.perf_counter()
            if sent > start + seconds:
                break
            beside()
            try:
                connection.request("POST", path, data)
                answer = connection.getresponse()
                status, body = answer.status, answer.read()
            except OSError:
                status, body = 0, b""
            now = time.perf_counter()
            with lock:
                load.lost += not status
                load.wrong += status == 200 and body != expected
                if sent >= start:
                    load.statuses[status] += 1
                if status == 200 and start <= now <= start + seconds:
                    load.latencies.append(now - sent)
            if status != 200:
                time.sleep(0.1)  # impatient: Retry-After asks for a second or more
        connection.close()

    with ThreadPoolExecutor(clients) as pool:
        done = [pool.submit(send, client) for client in range(clients)]
        while not all(client.done() for client in done):
            time.sleep(1)
            if start <= time.perf_counter() <= start + seconds:
                load.memory.append(process.memory_info().rss)
        for client in done:
            client.result()


def summarise(args: argparse.Namespace, load: Load) -> dict[str, object]:
    """Return the JSON-ready results of a run."""
    rate = float(np.mean(load.service))
    return {
        "settings": {k: v for k, v in vars(args).items() if k not in ("main", "json")},
        "offline_per_second": load.offline,
        "service_per_second": load.service,
        "ratio_median": float(np.median(np.array(load.service) / np.array(load.offline))),
        "latency_p50_s": float(np.percentile(load.latencies, 50)),
        "latency_p99_s": float(np.percentile(load.latencies, 99)),
        # A full queue, which includes the running batch, and one more batch for jitter.
        "latency_bound_s": (args.queue + args.batch) / rate,
        "statuses": dict(sorted(load.statuses.items())),
        "lost": load.lost,
        "wrong": load.wrong,
        **memory_use(load.memory),
    }


def memory_use(resident: list[int]) -> dict[str, float]:
    """Return early, late and peak memory in MiB, from samples in bytes."""
    fifth = max(1, len(resident) // 5)
    return {
        "memory_first_fifth_mib": float(np.median(resident[:fifth])) / 2**20,
        "memory_last_fifth_mib": float(np.median(resident[-fifth:])) / 2**20,
        "memory_most_mib": max(resident) / 2**20,
    }


def format_report(report: dict[str, object]) -> str:
    """Return a table of the results from `summarise`."""

    def text(value: object) -> str:
        if isinstance(value, dict):
            return ", ".join(f"{k}: {v}" for k, v in value.items())
        if isinstance(value, list):
            return ", ".join(map(text, value))
        return f"{value:.3f}" if isinstance(value, float) else str(value)

    rows = [f"| {name.replace('_', ' ')} | {text(value)} |" for name, value in report.items()]
    return "\n".join(["| quantity | value |", "|---|---|", *rows])
