"""SIGINT, SIGTERM and SIGHUP, where a KeyboardInterrupt would come at the wrong time."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Handler = Callable[[int, FrameType | None], object]

# Ctrl-C, `kill`, and a terminal that is closed, which Windows does not have.
_NUMBERS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt when a signal comes in the block, which the main thread runs.

    An extension module that is being imported turns it into an ImportError; any exception that
    leaves the block after a signal is a KeyboardInterrupt again.
    """
    interrupted = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        raise KeyboardInterrupt

    try:
        with _handled(interrupt):
            yield
    except BaseException:
        if interrupted:
            raise KeyboardInterrupt from None
        raise


@contextmanager
def deferred() -> Iterator[None]:
    """Let a signal wait for the end of the block.

    For imports whose ImportError would let the program go on with something else.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # where no signal is handled
        return
    waiting: list[int] = []
    try:
        with _handled(lambda number, frame: waiting.append(number)):
            yield
    finally:
        if waiting:
            signal.raise_signal(waiting[0])


@contextmanager
def _handled(handler: Handler) -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in _NUMBERS}
    # A shell has what it runs in the background ignore ctrl-C, and `nohup` the terminal's end.
    # None is a handler that was not set by Python and could not be set again.
    taken = {n: old for n, old in before.items() if old not in (signal.SIG_IGN, None)}
    try:
        for number in taken:
            signal.signal(number, handler)
        yield
    finally:
        for number, old in taken.items():
            signal.signal(number, old)
