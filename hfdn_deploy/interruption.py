"""SIGINT, SIGTERM and SIGHUP, where a KeyboardInterrupt would come at the wrong time."""

import os
import signal
from contextlib import contextmanager, suppress
from threading import current_thread, main_thread

TYPE_CHECKING = False  # of `typing`; a program imports this before it handles any signal
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    Handler = Callable[[int, FrameType | None], object]

# Ctrl-C, `kill`, and a terminal that is closed, which Windows does not have.
_NUMBERS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


INTERRUPTED = 130
"""Exit code of a program that a signal ended."""

# What stands between a module and the one that it imports.
_MACHINERY = ("importlib", "importlib._bootstrap", "lazy_loader")


def end_at_signals() -> None:
    """End the process at once when a signal comes; for a program's first moments and its last.

    Else Python would show where it was. What comes before this is called cannot be helped.
    """
    _set(dict.fromkeys(_unignored(), _end))


def _end(number: int, frame: "FrameType | None") -> None:
    report_interruption()
    os._exit(INTERRUPTED)


@contextmanager
def interruptible() -> "Iterator[None]":
    """Raise KeyboardInterrupt when a signal comes in the block, which the main thread runs.

    While a command line imports what it needs, nothing has begun, and the process ends at once:
    an extension module may abort on an exception. Elsewhere an import may turn it into an
    ImportError; any exception that leaves the block after a signal is a KeyboardInterrupt again.
    """
    interrupted = False

    def interrupt(number: int, frame: "FrameType | None") -> None:
        nonlocal interrupted
        interrupted = True
        if _importer(frame).startswith("hfdn_deploy.cli"):
            _end(number, frame)
        raise KeyboardInterrupt

    try:
        with _handled(interrupt):
            yield
    except BaseException:
        if interrupted:
            raise KeyboardInterrupt from None
        raise


def report_interruption() -> None:
    """Say that a signal ended the program."""
    with suppress(OSError):  # nobody reads it
        os.write(2, b"interrupted; nothing half-written is left.\n")


def _importer(frame: "FrameType | None") -> str:
    """Return the module that began the import under way; empty if there is none."""
    found = ""
    while frame and frame.f_back:
        below = frame.f_back.f_globals.get("__name__", "")
        if frame.f_globals.get("__name__") in _MACHINERY and below not in _MACHINERY:
            found = below
        frame = frame.f_back
    return found


@contextmanager
def deferred() -> "Iterator[None]":
    """Let a signal wait for the end of the block.

    For imports whose ImportError would let the program go on with something else.
    """
    if current_thread() is not main_thread():
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
def _handled(handler: "Handler") -> "Iterator[None]":
    before = _unignored()
    try:
        _set(dict.fromkeys(before, handler))
        yield
    finally:
        _set(before)


def _unignored() -> "dict[int, Handler | int]":
    """Return the handlers of the signals that this process may handle.

    A shell has what it runs in the background ignore ctrl-C, and `nohup` the terminal's end.
    """
    found = {number: signal.getsignal(number) for number in _NUMBERS}
    # None is a handler that was not set by Python and could not be set again.
    return {n: old for n, old in found.items() if old not in (signal.SIG_IGN, None)}


def _set(handlers: "dict[int, Handler | int]") -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
