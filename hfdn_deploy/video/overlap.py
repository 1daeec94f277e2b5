"""Pipeline stages that run concurrently, in threads."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import Empty, Queue
from threading import Event, Thread
from typing import TypeVar

from hfdn_deploy.interruption import deferred

Item = TypeVar("Item")


@dataclass(frozen=True)
class _End:
    """The mark behind the last item of a queue."""

    error: BaseException | None


@contextmanager
def overlapped(items: Iterable[Item], depth: int) -> Iterator[Iterator[Item]]:
    """Produce items in a thread, at most `depth` items ahead of the consumer.

    Yields an iterator over the items, which re-raises the producer's exceptions. When the `with`
    block ends, normally or not, production stops after the current item.
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

    # A daemon, so that the process can exit at a second SIGINT without waiting for it.
    thread = Thread(target=produce, daemon=True)
    try:
        # A signal between the start and this block would leave the thread behind, and it would read
        # files that are closed.
        with deferred():
            thread.start()
        yield taken()
    finally:
        stopped.set()
        while thread.is_alive():
            # The thread may be waiting for room in the queue.
            with suppress(Empty):
                queue.get_nowait()
            thread.join(0.01)
