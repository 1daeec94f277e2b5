"""Threads that start together share sessions, cut graphs and pools that are opened on use."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, BrokenBarrierError

import numpy as np
import pytest

from hfdn_deploy import Upscaler
from hfdn_deploy.backends import OnnxRuntimeBackend, OpenVINOBackend, Parts

pytestmark = pytest.mark.usefixtures("every_core")

THREADS = 8


def together(work):
    """Return the results of `work` in eight threads that start at once."""
    barrier = Barrier(THREADS)

    def run(number):
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(run, range(THREADS)))


def test_a_part_is_opened_once():
    barrier, opened = Barrier(2, timeout=0.2), []

    def slow(name):
        opened.append(name)
        # A second thread here would pass the barrier with the first.
        with pytest.raises(BrokenBarrierError):
            barrier.wait()
        return object()

    parts = Parts(slow)
    assert len({id(part) for part in together(lambda number: parts["a"])}) == 1
    assert opened == ["a"]
    assert len(parts.clear()) == 1
    assert parts.clear() == []


@pytest.mark.parametrize("kind", [OnnxRuntimeBackend, OpenVINOBackend])
@pytest.mark.parametrize("memory", [None, 150 * 2**20], ids=["kept", "twice"])
def test_tiles_of_eight_threads_open_each_session_once(photo, monkeypatch, kind, memory):
    opened, open_session = [], kind.open_session

    def counted(self, data):
        opened.append(len(data))
        return open_session(self, data)

    monkeypatch.setattr(kind, "open_session", counted)
    with Upscaler.load(2, kind.name, tile=16, max_memory=memory) as up:
        opened.clear()
        # Two tiles, of an image too wide for one tile with its halo.
        image = photo[:20, :60]
        results = together(lambda number: up(image))
        # "statistics" and "tile", or "trunk" and "heads".
        assert len(opened) == len(set(opened)) == 2
        expected = up(image)
        for result in results:
            np.testing.assert_array_equal(result, expected)


def test_images_submitted_at_once_share_one_pool(photo):
    with Upscaler.load(2, "onnxruntime", "int8") as up:
        futures = together(lambda number: up.submit(photo))
        expected = up(photo)
        for future in futures:
            np.testing.assert_array_equal(future.result(), expected)
        assert len(up._workers._threads) <= up.backend.concurrency
