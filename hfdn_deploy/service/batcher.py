"""One queue before the models: jobs in, batches of equal shape to the worker threads."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from hfdn_deploy.images import Image

logger = logging.getLogger(__name__)

# A larger picture keeps a processor busy by itself, and its batch would cost memory.
BATCH_PIXELS = 2**16

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Upscaled:
    """What a job gives."""

    image: Image
    waited: float
    """Seconds in the queue."""
    took: float
    """Seconds that its batch took."""
    batch: int
    """Images in that batch."""


@dataclass(eq=False)
class _Waiting(Generic[K]):
    model: K
    image: Image
    future: Future[Upscaled] = field(default_factory=Future)
    queued: float = field(default_factory=time.perf_counter)

    def fits(self, other: "_Waiting[K]") -> bool:
        kind = (self.model, self.image.shape, self.image.dtype)
        return kind == (other.model, other.image.shape, other.image.dtype)


class Batcher(Generic[K]):
    """Runs jobs in the order they came; those of equal model and shape that wait run together.

    It never waits for a batch to fill: a batch is what came while the one before it ran. The
    queue has no bound of its own; who submits keeps one (`limits.Gate`).
    """

    def __init__(
        self,
        run: Callable[[K, Sequence[Image]], Sequence[Image]],
        most: Callable[[K], int],
        workers: int = 1,
    ) -> None:
        """Start the worker threads.

        Args:
            run: upscales images of one shape and dtype with one model.
            most: images that a batch for this model may hold.
            workers: how many batches run at once.
        """
        self._run = run
        self._most = most
        self._jobs: deque[_Waiting[K]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self.pace = 1.0
        """Seconds an image takes, averaged over the last ones."""
        self._threads = [threading.Thread(target=self._work) for _ in range(workers)]
        for thread in self._threads:
            thread.start()

    @property
    def alive(self) -> bool:
        """Whether jobs are still taken and worked on."""
        return not self._closed and all(thread.is_alive() for thread in self._threads)

    def submit(self, model: K, image: Image) -> Future[Upscaled]:
        """Queue a job. Cancelling its future takes it out again, unless it runs already."""
        job = _Waiting(model, image)
        job.future.add_done_callback(lambda future: self._drop(job) if future.cancelled() else None)
        with self._changed:
            if self._closed:
                raise RuntimeError("the batcher is closed")
            self._jobs.append(job)
            self._changed.notify()
        return job.future

    def close(self) -> None:
        """Finish what was submitted, then end the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _drop(self, job: _Waiting[K]) -> None:
        """Free what a cancelled job holds, now rather than at its turn."""
        with self._changed:
            if job in self._jobs:
                self._jobs.remove(job)

    def _work(self) -> None:
        while batch := self._next():
            # Cancelling has its last chance here.
            if batch := [job for job in batch if job.future.set_running_or_notify_cancel()]:
                self._finish(batch)

    def _next(self) -> list[_Waiting[K]]:
        """The oldest job and those that can run with it; nothing when all is done and closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closed)
            if not self._jobs:
                return []
            first = self._jobs[0]
            height, width = first.image.shape[:2]
            most = max(1, min(self._most(first.model), BATCH_PIXELS // (height * width)))
            batch = [job for job in self._jobs if job.fits(first)][:most]
            for job in batch:
                self._jobs.remove(job)
            return batch

    def _finish(self, batch: list[_Waiting[K]]) -> None:
        start = time.perf_counter()
        try:
            images = self._run(batch[0].model, [job.image for job in batch])
        except Exception as error:
            if len(batch) > 1:
                logger.warning("a batch of %d failed (%s); each runs alone.", len(batch), error)
                for job in batch:
                    self._finish([job])
            else:
                batch[0].future.set_exception(error)
            return
        took = time.perf_counter() - start
        self.pace += 0.2 * (took / len(batch) / len(self._threads) - self.pace)
        for job, image in zip(batch, images, strict=True):
            job.future.set_result(Upscaled(image, start - job.queued, took, len(batch)))
