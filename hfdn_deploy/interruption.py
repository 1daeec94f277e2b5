"""Ctrl-C and its kin, where a KeyboardInterrupt would come at the wrong time."""

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


def on_interruption(handler: Handler) -> None:
    """Have these signals handled so, from the main thread."""
    for number in _NUMBERS:
        # A shell has what it runs in the background ignore ctrl-C, and `nohup` the terminal's end.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


@contextmanager
def deferred() -> Iterator[None]:
    """Let interruptions wait for the end of the block.

    An extension module that is being imported makes of them the ImportError of a broken one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # where no signal is handled
        return
    waiting: list[tuple[int, FrameType | None]] = []
    before = {number: signal.getsignal(number) for number in _NUMBERS}
    handled = {number: handler for number, handler in before.items() if callable(handler)}
    for number in handled:
        signal.signal(number, lambda *interruption: waiting.append(interruption))
    try:
        yield
    finally:
        for number, handler in handled.items():
            signal.signal(number, handler)
        for number, frame in waiting[:1]:
            handled[number](number, frame)
