import pytest

from hfdn_deploy.errors import InputError
from hfdn_deploy.video import overlapped


def test_overlapped_keeps_order_and_stays_within_its_depth():
    produced = []
    taken = 0

    def produce():
        for number in range(50):
            produced.append(number)
            assert len(produced) - taken <= 5
            yield number

    with overlapped(produce(), 3) as numbers:
        for number in numbers:
            assert number == taken
            taken += 1
    assert taken == 50


def test_overlapped_passes_errors_on_and_stops_when_left():
    def fail():
        yield 1
        raise InputError("on purpose")

    with overlapped(fail(), 1) as numbers:
        assert next(numbers) == 1
        with pytest.raises(InputError, match="on purpose"):
            next(numbers)

    endless = iter(int, 1)
    with (
        pytest.raises(KeyboardInterrupt),
        overlapped(endless, 1) as first,
        overlapped(first, 1) as second,
    ):
        next(second)
        raise KeyboardInterrupt


def test_a_thread_whose_start_is_interrupted_is_waited_for(interrupted_starts):
    with pytest.raises(KeyboardInterrupt), overlapped(iter(int, 1), 1):
        pytest.fail("the signal was lost")
    assert [thread.is_alive() for thread in interrupted_starts] == [False]
