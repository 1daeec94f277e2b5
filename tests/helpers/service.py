"""A service on a loopback port."""

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import uvicorn

from hfdn_deploy.images import encode_image
from hfdn_deploy.options import ModelOptions
from hfdn_deploy.service import Limits, ModelSettings, Service, Settings, listen, make_server

MODELS = ModelSettings((ModelOptions(model=2, precision="int8"),))


@dataclass(frozen=True)
class Running:
    """A service on a loopback port, in a thread of its own."""

    service: Service
    server: uvicorn.Server
    port: int

    def post(self, body, **options):
        return httpx.post(
            f"http://127.0.0.1:{self.port}/v1/upscale", content=body, timeout=60, **options
        )

    def get(self, path, **options):
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=60, **options)


@contextmanager
def running(models=MODELS, token=None, **limits):
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


def until(condition):
    """Wait for what must come true."""
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen in 30 s")


@contextmanager
def held(service):
    """Keep the engine from starting; gives the sizes of the batches that it gets."""
    go, sizes, run = threading.Event(), [], service.batcher._run

    def wait_and_run(model, images):
        sizes.append(len(images))
        go.wait(60)
        return run(model, images)

    service.batcher._run = wait_and_run
    try:
        yield go, sizes
    finally:
        go.set()
        service.batcher._run = run


def encoded(image, suffix):
    return encode_image(image, Path(f"a{suffix}"))
