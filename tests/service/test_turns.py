"""Scheduling of large and small images: turns, stops, estimates, health."""

import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import httpx
import numpy as np
import pytest

from hfdn_deploy import Upscaler
from hfdn_deploy.errors import BackendError
from hfdn_deploy.options import ModelOptions
from hfdn_deploy.service import Batcher, ModelSettings, Pace, Service, Settings, StoppedError
from tests.helpers.service import encoded, held, running, serving, until

SMALL = np.zeros((2, 2, 3), np.uint8)
LARGE = np.zeros((200, 200, 3), np.uint8)


@pytest.fixture
def steps():
    """A batcher, a semaphore for the tiles of its large jobs, and a list of finished runs."""
    ran, tile = [], threading.Semaphore(0)

    def run(model, images, progress):
        if images[0].shape == LARGE.shape:
            for done in range(1, 5):
                assert tile.acquire(timeout=30)
                ran.append((model, done))
                progress(done, 4)
        else:
            ran.append((model, len(images)))
        return images

    batcher = Batcher(run, lambda _: 8)
    yield SimpleNamespace(batcher=batcher, ran=ran, tile=tile)
    tile.release(100)
    batcher.close(30)


def test_models_take_turns(steps):
    first = steps.batcher.submit("a", LARGE, 4, small=False)
    until(lambda: not steps.batcher.waiting)
    rest = [steps.batcher.submit("a", np.zeros((2, n, 3))) for n in (3, 4, 5)]
    rest += [steps.batcher.submit("b", SMALL) for _ in range(2)]
    rest += [steps.batcher.submit("c", LARGE, 4, small=False)]
    steps.tile.release(8)
    for job in (first, *rest):
        job.future.result(30)
    small = [(model, number) for model, number in steps.ran if model != "c"][1:]
    # The two jobs of b form one batch before a's second job; c waits for a's tiles.
    assert [one for one in steps.ran if one[0] == "b"] == [("b", 2)]
    assert small.index(("b", 2)) <= 2
    assert steps.ran[-4:] == [("c", done) for done in (1, 2, 3, 4)]


def test_small_images_run_between_the_tiles_of_a_large_one(steps):
    large = steps.batcher.submit("a", LARGE, 8, small=False)
    steps.tile.release()
    until(lambda: steps.ran == [("a", 1)])
    assert steps.batcher.seconds_ahead(small=False) == pytest.approx(8 * 3 / 4)
    assert steps.batcher.seconds_ahead(small=True) == 0
    other = steps.batcher.submit("a", LARGE, 8, small=False)
    small = steps.batcher.submit("b", SMALL, 2)
    # One and a half times its own time, because tiles have a third of the time.
    assert steps.batcher.seconds_ahead(small=True) == pytest.approx(3)
    steps.tile.release()
    assert small.future.result(30).batch == 1
    assert not large.future.done()
    other.stop()
    steps.tile.release(2)
    large.future.result(30)
    assert steps.ran == [("a", 1), ("a", 2), ("b", 1), ("a", 3), ("a", 4)]


def test_a_job_is_stopped_after_the_tile_that_runs(steps):
    large = steps.batcher.submit("a", LARGE, small=False)
    steps.tile.release()
    until(lambda: steps.ran == [("a", 1)])
    large.stop()
    small = steps.batcher.submit("a", SMALL)
    steps.tile.release()
    small.future.result(30)
    assert steps.ran == [("a", 1), ("a", 2), ("a", 1)]
    with pytest.raises(StoppedError):
        large.future.result(30)


def test_stopping_ends_what_waits_and_what_runs(steps):
    jobs = [steps.batcher.submit("a", LARGE, small=False) for _ in range(2)]
    until(lambda: steps.batcher.waiting == 1)
    steps.batcher.stop()
    for job in jobs:
        with pytest.raises(StoppedError):
            job.future.result(30)
    with pytest.raises(StoppedError):
        steps.batcher.submit("a", SMALL)
    steps.tile.release()
    steps.batcher.close(30)
    assert steps.ran == [("a", 1)]
    assert not steps.batcher.alive


def test_an_image_costs_what_its_tiles_cost():
    pace = Pace(call=0.001, pixel=1e-5, halo=20, side=128)
    assert pace.tiles(168, 168) == 1
    assert pace.seconds(168, 168) == pytest.approx(0.001 + 168**2 * 1e-5)
    # 29 tiles of 128 pixels with their halos, each run twice.
    assert pace.tiles(1, 29 * 128 + 40) == 29
    assert pace.seconds(1, 29 * 128 + 40) == pytest.approx(58 * 0.001 + 29 * 168 * 1e-5)
    # Tiny images weigh little, and outliers are clipped.
    pace.learn(1, 1, 2.0)
    assert pace.factor < 1.02
    pace.learn(168, 168, 100)
    assert pace.factor < 1.4
    for _ in range(50):
        pace.learn(168, 168, 3 * (0.001 + 168**2 * 1e-5))
    assert pace.seconds(10, 10) == pytest.approx(3 * (0.001 + 100 * 1e-5), rel=1e-3)


def test_a_model_is_timed(photo):
    with Upscaler.load(2, precision="int8") as up:
        pace = Pace.measure(up, None)
        assert pace.side % 16 == 0
        assert 128 <= pace.side <= 2048
        assert pace.halo == 20
        assert Pace.measure(up, 48).side == 48
    assert 0 < pace.pixel < 1e-3
    assert 0 <= pace.call < 1


def test_what_cannot_be_done_in_time_is_refused_at_once(png):
    flat = encoded(np.full((2000, 2000, 3), 90, np.uint8), ".png")
    with running(answer_seconds=1) as served, ThreadPoolExecutor() as clients:
        pace = served.service.models.choose(None, None).pace
        pace.call, pace.pixel, pace.side, pace.factor = 0.02, 1e-5, 2048, 1.0
        refused = served.post(flat)
        assert refused.status_code == 413
        assert "in int8 would take about 40 s here, and 1 s are the limit" in refused.text
        assert "retry-after" not in refused.headers
        # As on a busy machine: the image may be accepted later, and refusals trigger timing.
        pace.pixel, pace.factor = 1e-7, 1e4
        pace.timed -= 60
        refused = served.post(flat)
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"
        until(lambda: pace.factor < 0.9e4)
        pace.factor = 0.5 / pace.quiet_seconds(16, 24)
        with held(served.service) as (go, sizes):
            first = clients.submit(served.post, png)
            until(lambda: sizes == [1])
            others = [clients.submit(served.post, png) for _ in range(2)]
            statuses = {answer.result().status_code for answer in others}
            go.set()
            assert statuses == {503}
            assert first.result().status_code in (200, 503)


def test_a_long_image_lets_others_through_and_ends_with_its_client(photo, png):
    models = ModelSettings((ModelOptions(model=2, precision="int8", tile=16),))
    large = encoded(np.tile(photo, (6, 6, 1)), ".png")
    with running(models) as served:
        moved = []
        run = served.service.batcher._run

        def noted(model, images, progress):
            def note(done, total):
                moved.append((done, total))
                progress(done, total)

            return run(model, images, note)

        served.service.batcher._run = noted
        with socket.create_connection(("127.0.0.1", served.port)) as leaves:
            head = f"POST /v1/upscale HTTP/1.1\r\nHost: x\r\nContent-Length: {len(large)}\r\n\r\n"
            leaves.sendall(head.encode() + large)
            until(lambda: moved)
            assert served.post(png).status_code == 200
        until(lambda: served.service.queue.inside == 0 and served.service.batcher.stuck == 0)
        assert moved[-1][0] < moved[-1][1]
        assert served.post(png).status_code == 200


def test_health_tells_what_is_wrong(png, monkeypatch):
    monkeypatch.setattr("hfdn_deploy.service.service.STUCK_SECONDS", 0.2)
    with running(answer_seconds=0.2, queue=1) as served, ThreadPoolExecutor() as clients:
        for path in ("/livez", "/readyz", "/healthz"):
            assert served.get(path).json() == {"status": "ok"}
        with held(served.service) as (_, sizes):
            clients.submit(served.post, png)
            until(lambda: sizes == [1])
            until(lambda: served.get("/livez").status_code == 503)
            for path in ("/livez", "/readyz", "/healthz"):
                answer = served.get(path)
                assert answer.status_code == 503
                assert answer.json()["status"] == "degraded"
                assert "has not finished a tile for" in answer.json()["reason"]
        until(lambda: served.get("/readyz").status_code == 200)
    with running(queue=1) as served, ThreadPoolExecutor() as clients, held(served.service):
        clients.submit(served.post, png)
        until(lambda: served.service.queue.inside == 1)
        assert served.get("/readyz").json()["reason"] == "1 images are being served."
        assert served.get("/livez").status_code == 200


SERVE = """
import logging, signal, sys, threading, time
from hfdn_deploy.options import ModelOptions
from hfdn_deploy.service import Limits, ModelSettings, Settings, serve
from hfdn_deploy.service.models import Models
settings = Settings(
    ModelSettings((ModelOptions(model=2, precision="int8", tile=16),)), Limits(shutdown_seconds=4)
)
run = Models.run
def started(models, model, images, progress):
    print("started", file=sys.stderr, flush=True)
    if {hangs}:
        threading.Event().wait()
    return run(models, model, images, lambda *report: (time.sleep(0.05), progress(*report)))
Models.run = started
logging.basicConfig(level="INFO")
serve(settings, "127.0.0.1", 0)
"""


@pytest.mark.parametrize("hangs", [False, True])
def test_a_signal_ends_the_process_whatever_runs(photo, hangs):
    process, url = serving([sys.executable, "-c", SERVE.format(hangs=hangs)])
    with ThreadPoolExecutor() as clients:
        body = encoded(np.tile(photo, (3, 3, 1)), ".png")
        client = clients.submit(httpx.post, f"{url}/v1/upscale", content=body, timeout=60)
        while "started" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGTERM)
        answer = client.result()
    assert answer.status_code == 503
    assert "the service is shutting down" in answer.json()["detail"]
    said = process.communicate(timeout=30)[1]
    # uvicorn raises the signal again after its shutdown.
    assert process.returncode == (BackendError.exit_code if hangs else -signal.SIGTERM)
    assert ("the process is killed" in said) is hangs


def test_models_that_are_not_used_are_closed(png):
    models = ModelSettings(tuple(ModelOptions(model=s, precision="int8") for s in (4, 2, 3)))
    with running(models) as served:

        def opened():
            return [model.scale for model in served.service.models._opened]

        answers = [served.post(png, params={"scale": scale}).content for scale in (2, 4, 3)]
        assert opened() == [2, 4, 3]
        served.service.models.trim()
        models = served.service.models
        # More than the other threads may release meanwhile.
        models._base, models._allowed = 0, models._resident() - 2**22
        models.trim()
        assert opened()[-1:] == [3]
        assert 2 not in opened()
        models._base, models._allowed = 0, 2**20
        models.trim()
        # Closing does not release enough, so the base grows and closing is not repeated.
        assert opened() == [3]
        assert models._excess() <= 2**20
        assert "hfdn_open_models 1.0" in served.get("/metrics").text
        models.trim()
        again = [served.post(png, params={"scale": scale}).content for scale in (2, 4, 3)]
        assert again == answers


def test_a_precision_that_is_chosen_twice_is_served_once():
    options = ModelOptions(model=2, backend="openvino", precision="auto")
    models = ModelSettings((options, replace(options, precision="int8")))
    with Service(Settings(models)) as service:
        (facts,) = service.models.describe()
        assert facts["choice"] == "openvino in int8 (the fastest measured of those left)"
        assert service.models.open == 1
        assert service.models.choose(2, "int8").options.precision == "int8"


def test_idle_memory_is_given_back(photo, png):
    with running() as served:
        resident = served.service.models._resident
        large = encoded(np.tile(photo, (5, 5, 1)), ".png")
        assert served.post(large).status_code == 200
        kept = resident()
        # One tile of 168×168 pixels took more than 90 MB.
        until(lambda: resident() < kept - 60 * 2**20)
        assert served.post(png).status_code == 200
