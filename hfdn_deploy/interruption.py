"""Handling of SIGINT, SIGTERM and SIGHUP, where a KeyboardInterrupt would do harm."""

import os
import signal
from contextlib import contextmanager, suppress
from threading import current_thread, main_thread

TYPE_CHECKING = False  # stands in for `typing`'s: imported before signals are handled
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    Handler = Callable[[int, FrameType | None], object]

# Windows has no SIGHUP.
_NUMBERS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


INTERRUPTED = 130
"""Exit code of a program that a signal ended."""

# Modules in the stack between a module and the one that it imports.
_MACHINERY = ("importlib", "importlib._bootstrap", "lazy_loader")


def end_at_signals() -> None:
    """End the process at once on a signal; for the start and the end of a program.

    By default Python would print a traceback, as it does for a signal before this call.
    """
    _set(dict.fromkeys(_unignored(), _end))


def _end(number: int, frame: "FrameType | None") -> None:
    report_interruption()
    os._exit(INTERRUPTED)


@contextmanager
def interruptible() -> "Iterator[None]":
    """Raise KeyboardInterrupt on a signal in the block, which must run in the main thread.

    During an import by `hfdn_deploy.cli` the process ends at once, since no work has begun and an
    extension module may abort on an exception. Other imports may turn the KeyboardInterrupt into
    an ImportError, so any exception that leaves the block after a signal becomes one again.
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
    """Write to stderr that a signal ended the program."""
    with suppress(OSError):  # stderr is closed
        os.write(2, b"interrupted; nothing half-written is left.\n")


def _importer(frame: "FrameType | None") -> str:
    """Return the module that began the current import; empty if there is none."""
    found = ""
    while frame and frame.f_back:
        below = frame.f_back.f_globals.get("__name__", "")
        if frame.f_globals.get("__name__") in _MACHINERY and below not in _MACHINERY:
            found = below
        frame = frame.f_back
    return found


@contextmanager
def deferred() -> "Iterator[None]":
    """Defer signals to the end of the block.

    For imports whose ImportError would make the program fall back to something else, and for
    starts of threads that are waited for.
    """
    if current_thread() is not main_thread():
        yield  # signals are handled in the main thread
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
    """Return the handlers of the signals that this process does not ignore.

    A shell makes background jobs ignore SIGINT, and `nohup` makes a program ignore SIGHUP.
    """
    found = {number: signal.getsignal(number) for number in _NUMBERS}
    # None stands for a handler that Python did not set and could not restore.
    return {n: old for n, old in found.items() if old not in (signal.SIG_IGN, None)}


def _set(handlers: "dict[int, Handler | int]") -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
