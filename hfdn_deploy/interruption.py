"""SIGINT, SIGTERM and SIGHUP, where a KeyboardInterrupt would come at the wrong time."""

import signal
import sys
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

    While a module is imported, the first signal waits for its end: an extension module may turn
    the exception into an ImportError, or abort the process. Any exception that leaves the block
    after a signal is a KeyboardInterrupt.
    """
    interrupted = False
    profile = sys.getprofile()

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        outermost = None if interrupted else _outermost_import(frame)
        interrupted = True
        if outermost is None:
            raise KeyboardInterrupt

        def end(returning: FrameType, event: str, _: object) -> None:
            if returning is outermost and event == "return":
                sys.setprofile(profile)
                raise KeyboardInterrupt

        sys.setprofile(end)

    try:
        with _handled(interrupt):
            yield
    except BaseException:
        if interrupted:
            raise KeyboardInterrupt from None
        raise
    finally:
        sys.setprofile(profile)


def _outermost_import(frame: FrameType | None) -> FrameType | None:
    """Return the frame of the import machinery that the others came from, if there is one."""
    found = None
    while frame:
        if frame.f_globals.get("__name__") == "importlib._bootstrap":
            found = frame
        frame = frame.f_back
    return found


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
