"""Several images at once, each in a thread, so that one can run while another waits."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from hfdn_deploy.interruption import deferred

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def mapped(
    function: Callable[[Item], Result], items: Iterable[Item], number: int
) -> Iterator[Iterator[Result]]:
    """Apply a function to items in `number` threads.

    Yields an iterator over the results in the order of the items; it raises the errors of the
    function and of the items. At most `number` results are ahead of the consumer. At the end of
    the `with` block, also after an error, each thread stops after its current item.
    """
    pool = ThreadPoolExecutor(number)
    waiting: deque[Future[Result]] = deque()

    def results() -> Iterator[Result]:
        for item in items:
            with deferred():  # the pool does not wait for a thread whose start was interrupted
                waiting.append(pool.submit(function, item))
            if len(waiting) > number:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    try:
        yield results()
    finally:
        pool.shutdown(cancel_futures=True)
