"""A service on a loopback port."""

import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from hfdn_deploy.images import Image, encode_image
from hfdn_deploy.options import ModelOptions
from hfdn_deploy.service import Limits, ModelSettings, Service, Settings, listen, make_server
from tests.helpers.paths import ROOT

MODELS = ModelSettings((ModelOptions(model=2, precision="int8"),))


@dataclass(frozen=True)
class Running:
    """A service on a loopback port, served from a thread."""

    service: Service
    server: uvicorn.Server
    port: int

    def post(self, body: bytes | None, **options: Any) -> httpx.Response:
        """Send an image to be upscaled."""
        return httpx.post(
            f"http://127.0.0.1:{self.port}/v1/upscale", content=body, timeout=60, **options
        )

    def get(self, path: str, **options: Any) -> httpx.Response:
        """Get a page or a document."""
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=60, **options)


@contextmanager
def running(
    models: ModelSettings = MODELS, token: str | None = None, **limits: Any
) -> Iterator[Running]:
    """Serve while the block runs; `limits` are fields of `Limits`."""
    # Estimates are high on a busy machine, so nothing is refused for taking too long.
    limits = {"answer_seconds": 600.0, **limits}
    with Service(Settings(models, Limits(**limits), token)) as service, listen("", 0) as sock:
        server = make_server(service)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
        port = sock.getsockname()[1]
        thread.start()
        try:
            until(lambda: server.started)
            yield Running(service, server, port)
        finally:
            server.should_exit = True
            thread.join()


def serving(command: Sequence[str]) -> tuple[subprocess.Popen[str], str]:
    """Start a process that serves; return it and its address once it serves."""
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stderr
    while not (found := re.search(r"serving on (\S+)", line := process.stderr.readline())):
        assert line, "the process ended before it served"
    return process, found[1]


def until(condition: Callable[[], Any]) -> None:
    """Wait until a condition holds, for 30 seconds at most."""
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("the condition did not hold within 30 s")


@contextmanager
def held(service: Service) -> Iterator[tuple[threading.Event, list[int]]]:
    """Hold back every batch until an event is set; yield the event and the batch sizes."""
    go, run = threading.Event(), service.batcher._run
    sizes: list[int] = []

    def wait_and_run(model: Any, images: Any, progress: Any) -> Any:
        sizes.append(len(images))
        go.wait(60)
        return run(model, images, progress)

    service.batcher._run = wait_and_run
    try:
        yield go, sizes
    finally:
        go.set()
        service.batcher._run = run


def encoded(image: Image, suffix: str) -> bytes:
    """Return an image encoded in the format of a suffix."""
    return encode_image(image, Path(f"a{suffix}"))
