"""Stages of a pipeline that run at the same time, in threads."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import Empty, Queue
from threading import Event, Thread
from typing import TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class _End:
    """Follows the last item."""

    error: BaseException | None


@contextmanager
def overlapped(items: Iterable[Item], depth: int) -> Iterator[Iterator[Item]]:
    """Produce items in a thread, at most `depth` of them ahead of who takes them.

    Yields an iterator over the items, which raises what their production raises. When the
    `with` block ends, however it does, production stops after the item it is at.
    """
    queue: Queue[Item | _End] = Queue(depth)
    stopped = Event()

    def produce() -> None:
        error = None
        try:
            for item in items:
                queue.put(item)
                if stopped.is_set():
                    return
        except BaseException as raised:
            error = raised
        queue.put(_End(error))

    def taken() -> Iterator[Item]:
        while not isinstance(item := queue.get(), _End):
            yield item
        if item.error is not None:
            raise item.error

    # A daemon, so that a second ctrl-C need not wait for it.
    thread = Thread(target=produce, daemon=True)
    thread.start()
    try:
        yield taken()
    finally:
        stopped.set()
        while thread.is_alive():
            # It may be waiting for room in the queue.
            with suppress(Empty):
                queue.get_nowait()
            thread.join(0.01)
