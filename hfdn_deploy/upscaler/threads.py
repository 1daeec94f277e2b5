"""Several images at once, each in a thread: where one waits, another goes on."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def mapped(
    function: Callable[[Item], Result], items: Iterable[Item], number: int
) -> Iterator[Iterator[Result]]:
    """Apply a function to items in so many threads.

    Yields an iterator over the results in the order of the items, which raises what the function
    or the items raise. At most `number` of them are ahead of who takes them. When the `with` block
    ends, however it does, the threads end after the items they are at.
    """
    pool = ThreadPoolExecutor(number)
    waiting: deque[Future[Result]] = deque()

    def results() -> Iterator[Result]:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > number:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    try:
        yield results()
    finally:
        pool.shutdown(cancel_futures=True)
