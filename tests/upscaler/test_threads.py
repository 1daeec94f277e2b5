"""Several images at once: their number, and the order of their results."""

from threading import Event, active_count
from time import sleep

import numpy as np
import pytest

from hfdn_deploy import Upscaler
from hfdn_deploy.upscaler import mapped


def test_mapped_keeps_order_and_stays_near_what_is_taken():
    begun, taken = [], 0

    def items():
        for number in range(20):
            begun.append(number)
            assert len(begun) - taken <= 4
            yield number

    with mapped(lambda number: number**2, items(), 3) as results:
        for result in results:
            assert result == taken**2
            taken += 1
    assert taken == 20


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_mapped_ends_its_threads_after_an_error(error):
    before, begun, late = active_count(), [], Event()

    def work(number):
        begun.append(number)
        if number == 1 and error is ValueError:
            raise error("on purpose")
        late.wait(0.05)
        return number

    with pytest.raises(error), mapped(work, range(100), 2) as results:
        assert next(results) == 0
        if error is KeyboardInterrupt:
            raise error
        next(results)
    assert active_count() == before
    assert len(begun) <= 5


def test_mapped_waits_for_a_thread_whose_start_is_interrupted(interrupted_starts):
    with (
        pytest.raises(KeyboardInterrupt),
        mapped(lambda number: sleep(0.05), range(100), 2) as results,
    ):
        next(results)
    assert [thread.is_alive() for thread in interrupted_starts] == [False]


@pytest.fixture
def up(monkeypatch):
    """An upscaler whose backend has four streams, and prepares for a few images."""
    monkeypatch.setattr("hfdn_deploy.upscaler.planning.WORTH_PREPARING", 100)
    with Upscaler.load(2, "openvino") as up:
        up.backend.streams, up.backend.prepared = 4, []
        up.backend.prepare = lambda *asked: up.backend.prepared.append(asked)
        yield up


@pytest.mark.parametrize(
    ("number", "threads", "streams"), [(1, 1, None), (2, 2, None), (3, 3, 2), (9, 5, 4)]
)
def test_as_many_threads_as_streams_and_one(up, number, threads, streams):
    plan, found = up.plan_many((6, 7, 3), np.uint8, number)
    assert (plan.runs_whole, found) == (True, threads)
    assert up.backend.prepared == ([(6, 7, streams)] if streams else [])


def test_no_more_threads_than_are_asked_for(up):
    assert up.plan_many((6, 7), np.uint8, 9, threads=1)[1] == 1
    assert up.plan_many((6, 7), np.uint8, 9, threads=2)[1] == 2
    assert up.backend.prepared == [(6, 7, 1), (6, 7, 1)]


def test_no_more_threads_than_memory_allows(up, photo):
    assert [
        Upscaler(up.backend, "", max_memory=memory).plan_many(photo.shape, np.uint8, 9)[1]
        for memory in (60_000_000, 110_000_000, 220_000_000)
    ] == [1, 2, 5]
    assert [number for *_, number in up.backend.prepared] == [1, 1, 4]


def test_tiles_ensembles_and_two_networks_take_one_thread(up, photo):
    for other in (Upscaler(up.backend, "", tile=16), Upscaler(up.backend, "", ensemble=True)):
        assert other.plan_many(photo.shape, np.uint8, 9)[1] == 1
    with Upscaler.load(6) as two:
        assert two.plan_many((6, 7), np.uint8, 9)[1] == 1
    assert up.backend.prepared == []
