import signal
import socket
import sys
import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from hfdn_deploy.cli import main
from hfdn_deploy.service import Batcher
from tests.helpers.service import encoded, held, running, serving, until


def test_a_full_queue_says_when_to_come_again(png):
    with running(queue=2) as served, ThreadPoolExecutor() as clients:
        with held(served.service) as (go, _):
            taken = [clients.submit(served.post, png) for _ in range(2)]
            until(lambda: served.service.queue.inside == 2)
            answer = served.post(png)
            assert answer.status_code == 429
            assert int(answer.headers["retry-after"]) >= 1
            go.set()
            assert [client.result().status_code for client in taken] == [200, 200]
        assert served.post(png).status_code == 200


def test_equal_shapes_run_together_and_give_the_same_bytes(served, photo):
    pictures = [encoded(photo[y : y + 16, :24], ".png") for y in (0, 20, 40)]
    other = encoded(photo[:10, :30], ".png")
    single = [served.post(picture).content for picture in (*pictures, other)]
    with ThreadPoolExecutor() as clients, held(served.service) as (go, sizes):
        first = clients.submit(served.post, other)
        until(lambda: sizes == [1])
        rest = []
        for picture in (pictures[0], other, *pictures[1:]):  # queued in this order
            rest.append(clients.submit(served.post, picture))
            until(lambda: served.service.batcher.waiting == len(rest))
        go.set()
        answers = [first, rest[0], rest[2], rest[3], rest[1]]
        contents = [answer.result().content for answer in answers]
    assert sizes == [1, 3, 1]
    assert contents == [single[3], *single]


def test_a_client_that_leaves_is_not_upscaled(served, png):
    with ThreadPoolExecutor() as clients, held(served.service) as (go, sizes):
        stays = clients.submit(served.post, png)
        until(lambda: sizes == [1])
        with socket.create_connection(("127.0.0.1", served.port)) as leaves:
            head = f"POST /v1/upscale HTTP/1.1\r\nHost: x\r\nContent-Length: {len(png)}\r\n\r\n"
            leaves.sendall(head.encode() + png)
            until(lambda: served.service.batcher.waiting == 1)
        until(lambda: not served.service.batcher.waiting and served.service.queue.inside == 1)
        go.set()
        assert stays.result().status_code == 200
    assert sizes == [1]


def test_what_takes_too_long_is_given_up(png):
    with running(answer_seconds=1) as served:
        with held(served.service):
            answer = served.post(png)
            assert answer.status_code == 503
            assert "retry-after" in answer.headers
        until(lambda: served.service.queue.inside == 0)
        assert served.post(png).status_code == 200


def talk(port, data):
    """Return the server's answer to a client that sends `data` and then nothing."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(data)
        said = b""
        while more := client.recv(10_000):
            said += more
        return said


@pytest.mark.slow
def test_clients_that_hang(served, png):
    upscale = b"POST /v1/upscale HTTP/1.1\r\nHost: x\r\n"
    for data, status in [
        (upscale + b"Content-Length: 1000\r\n\r\nabc", b"HTTP/1.1 408"),
        (upscale + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc", b"HTTP/1.1 408"),
        (upscale, b"HTTP/1.1 408"),
        (b"", b""),
    ]:
        assert talk(served.port, data).startswith(status)
    until(lambda: not served.server.server_state.connections)
    assert served.service.uploads.inside == 0
    assert served.post(png).status_code == 200


def test_a_client_that_never_reads(served, png):
    with socket.create_connection(("127.0.0.1", served.port)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(0.1)
        with pytest.raises((TimeoutError, ConnectionError)):
            while True:  # the server stops reading requests when nobody reads its answers
                client.sendall(b"GET /page.css HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
        until(lambda: not served.server.server_state.connections)
    assert served.post(png).status_code == 200


def test_a_client_that_reads_a_few_bytes_at_a_time(served, png):
    noise = np.random.default_rng(0).integers(0, 256, (600, 700, 3), np.uint8)
    body = encoded(noise, ".png")
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", served.port))
        head = f"POST /v1/upscale HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        taken = client.recv(100)
        assert taken.startswith(b"HTTP/1.1 200")
        while served.server.server_state.connections:  # the answer has more than 3 MB
            taken += client.recv(100)
            assert len(taken) < 10**6
            time.sleep(0.05)
    assert served.post(png).status_code == 200


def test_a_batch_that_fails_is_tried_one_by_one():
    started, go = threading.Event(), threading.Event()

    def run(_, images, progress):
        started.set()
        go.wait(30)
        if any(image.max() > 1 for image in images):
            raise ValueError("poisoned")
        return images

    batcher = Batcher(run, lambda _: 8)
    blocking = batcher.submit("x", np.zeros((1, 1)))
    started.wait(30)
    jobs = [batcher.submit("x", np.full((2, 2), value)) for value in (0, 7, 1, 0)]
    jobs[3].stop()
    go.set()
    assert [jobs[0].future.result(30).batch, jobs[2].future.result(30).image.max()] == [1, 1]
    with pytest.raises(ValueError, match="poisoned"):
        jobs[1].future.result(30)
    with pytest.raises(CancelledError):
        jobs[3].future.result(30)
    batcher.close(30)
    assert blocking.future.result(0).batch == 1
    assert not batcher.alive


def test_a_signal_ends_the_command_when_it_has_answered(photo):
    command = [sys.executable, "-m", "hfdn_deploy", "serve", "--port", "0"]
    command += ["--scale", "2", "--precision", "int8", "--shutdown-timeout", "100"]
    process, url = serving(command)
    picture = encoded(np.tile(photo, (3, 3, 1)), ".png")
    with ThreadPoolExecutor() as clients:
        client = clients.submit(httpx.post, f"{url}/v1/upscale", content=picture, timeout=60)
        while not client.done() and "hfdn_queue 1.0" not in httpx.get(f"{url}/metrics").text:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert client.result().status_code == 200
    assert "Traceback" not in process.communicate(timeout=30)[1]
    assert process.returncode == 0


def test_bad_commands_are_one_sentence(capsys, monkeypatch):
    model = ["--scale", "2", "--precision", "int8"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["serve", *model, "--port", port]) == 2
    assert "cannot listen on 127.0.0.1" in capsys.readouterr().err
    assert main(["serve", "--scale", "7"]) == 2
    assert main(["serve", *model, "--batch", "0"]) == 2
    assert main(["serve", *model, "--backend", "cuda"]) == 4
    capsys.readouterr()
    monkeypatch.setenv("HFDN_TOKEN", " ")
    assert main(["serve", *model]) == 2
    assert "$HFDN_TOKEN is empty" in capsys.readouterr().err
