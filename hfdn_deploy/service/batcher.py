"""The queue before the models: it forms batches of equal shape for the worker threads.

Models take turns, and the jobs of a model run in their order. A large image is upscaled in tiles;
between two tiles, small images run, and a job whose client has left is stopped.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from hfdn_deploy.images import Image
from hfdn_deploy.tiling import Progress

logger = logging.getLogger(__name__)

# A larger image keeps a processor busy alone, and a batch of them would cost memory.
BATCH_PIXELS = 2**16

# The time for small jobs between two tiles, as a multiple of the time of a tile.
_SMALL_SHARE = 2
# Memory is released after this time without a job.
_IDLE_SECONDS = 1.0

K = TypeVar("K", bound=Hashable)


class StoppedError(Exception):
    """A job was stopped before it finished."""


@dataclass(frozen=True)
class Upscaled:
    """The result of a job."""

    image: Image
    waited: float
    """Seconds in the queue."""
    took: float
    """Seconds to run its batch, without the small jobs between its tiles."""
    batch: int
    """Number of images in its batch."""


@dataclass(eq=False)
class Job(Generic[K]):
    """An image that waits or is being upscaled."""

    model: K
    image: Image
    seconds: float
    """The estimated time to upscale it."""
    small: bool
    """Whether it runs as a single tile, and so may run between the tiles of another job."""
    future: Future[Upscaled] = field(default_factory=Future)
    queued: float = field(default_factory=time.perf_counter)
    left: float = 1.0
    """The share that remains to be done, from 1 to 0."""
    stopped: bool = False

    def stop(self) -> None:
        """Remove the job from the queue, or end it after the current tile."""
        self.stopped = True
        self.future.cancel()

    def fits(self, other: "Job[K]") -> bool:
        """Return whether both jobs can run in one batch."""
        kind = (self.model, self.image.shape, self.image.dtype)
        return kind == (other.model, other.image.shape, other.image.dtype)


@dataclass
class _Worker:
    thread: threading.Thread
    moved: float | None = None
    """When its batch began or its last tile ended; None while it waits."""


class Batcher(Generic[K]):
    """A queue of jobs and its worker threads; waiting jobs of equal model and shape run together.

    The batcher never waits for a batch to fill: a batch holds the jobs that came while the batch
    before it ran. The queue is unbounded; callers must bound it (`limits.Admission`).
    """

    def __init__(
        self,
        run: Callable[[K, Sequence[Image], Progress], Sequence[Image]],
        most: Callable[[K], int],
        idle: Callable[[], object] = lambda: None,
        workers: int = 1,
    ) -> None:
        """Start the worker threads.

        Args:
            run: upscales images of one shape and dtype with one model. It calls its last argument
                after each tile, if there are several, and ends if that call raises.
            most: returns the largest number of images in a batch for a model.
            idle: called after a second without jobs.
            workers: number of batches that run at once.
        """
        self._run = run
        self._most = most
        self._idle = idle
        # By model; the model whose turn is next comes first.
        self._jobs: dict[K, deque[Job[K]]] = {}
        self._running: list[Job[K]] = []
        self._changed = threading.Condition()
        self._closed = False
        self._workers = [_Worker(threading.Thread()) for _ in range(workers)]
        for worker in self._workers:
            # A thread that hangs in a backend must not keep the process alive.
            worker.thread = threading.Thread(target=self._work, args=[worker], daemon=True)
            worker.thread.start()

    @property
    def alive(self) -> bool:
        """Whether jobs are still accepted and run."""
        return not self._closed and all(worker.thread.is_alive() for worker in self._workers)

    @property
    def waiting(self) -> int:
        """The number of waiting jobs."""
        with self._changed:
            return sum(map(len, self._jobs.values()))

    @property
    def stuck(self) -> float:
        """The longest time, in seconds, that a worker has spent on its current tile or batch."""
        moved = [moved for worker in self._workers if (moved := worker.moved) is not None]
        return time.perf_counter() - min(moved) if moved else 0.0

    def submit(self, model: K, image: Image, seconds: float = 0.0, small: bool = True) -> Job[K]:
        """Queue a job; the arguments are those of `Job`.

        Raises:
            StoppedError: the batcher is closed.
        """
        job = Job(model, image, seconds, small)
        job.future.add_done_callback(lambda future: self._drop(job) if future.cancelled() else None)
        with self._changed:
            if self._closed:
                raise StoppedError
            self._jobs.setdefault(model, deque()).append(job)
            self._changed.notify()
        return job

    def seconds_ahead(self, small: bool) -> float:
        """Return the seconds that a new job would wait."""
        with self._changed:
            waiting = [job for jobs in self._jobs.values() for job in jobs]
            if small:
                seconds = sum(job.seconds for job in waiting if job.small)
                seconds *= 1 + 1 / _SMALL_SHARE
            else:
                seconds = sum(job.seconds * job.left for job in (*waiting, *self._running))
        return seconds / len(self._workers)

    def close(self, patience: float) -> None:
        """Accept no more jobs, and end the threads.

        Args:
            patience: seconds for submitted jobs to finish before they are stopped. A thread that
                hangs in its backend for the same time again is abandoned.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._join(patience)
        self.stop()
        self._join(patience)

    def stop(self) -> None:
        """Accept no more jobs, and fail waiting and running jobs with `StoppedError`."""
        with self._changed:
            self._closed = True
            jobs = [job for jobs in self._jobs.values() for job in jobs] + self._running
            self._jobs.clear()
            self._changed.notify_all()
        for job in jobs:
            job.stopped = True
            with suppress(InvalidStateError):
                job.future.set_exception(StoppedError())

    def _join(self, patience: float) -> None:
        end = time.perf_counter() + patience
        for worker in self._workers:
            worker.thread.join(max(0.0, end - time.perf_counter()))

    def _drop(self, job: Job[K]) -> None:
        """Remove a cancelled job at once, so that its memory does not wait for its turn."""
        with self._changed, suppress(KeyError, ValueError):
            self._jobs[job.model].remove(job)

    def _work(self, worker: _Worker) -> None:
        busy = False
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: any(self._jobs.values()) or self._closed,
                    _IDLE_SECONDS if busy else None,
                )
                batch = self._take()
                if not batch and self._closed and not any(self._jobs.values()):
                    return
            if batch:
                self._finish(batch, worker)
            elif busy:
                self._rest()
            busy = bool(batch)

    def _rest(self) -> None:
        try:
            self._idle()
        except Exception as error:  # if it matters, the next job fails
            logger.warning("the memory of the last image could not be released: %s", error)

    def _take(self, small: bool = False) -> list[Job[K]]:
        """Remove and return the next model's oldest job and those that fit it, under the lock.

        Args:
            small: take only small jobs.
        """
        for model, jobs in self._jobs.items():
            first = next((job for job in jobs if job.small or not small), None)
            if first is None:
                continue
            height, width = first.image.shape[:2]
            most = max(1, min(self._most(model), BATCH_PIXELS // (height * width)))
            batch = [job for job in jobs if job.fits(first)][:most]
            for job in batch:
                jobs.remove(job)
            self._jobs[model] = self._jobs.pop(model)  # the other models have their turn
            # From here on, a job cannot be cancelled.
            return [job for job in batch if job.future.set_running_or_notify_cancel()]
        return []

    def _finish(self, batch: list[Job[K]], worker: _Worker) -> None:
        """Run a batch, and set the result or the error of each job."""
        start = worker.moved = time.perf_counter()
        others = 0.0  # seconds of small jobs between the tiles

        def between_tiles(done: int, total: int) -> None:
            nonlocal others
            job = batch[0]
            job.left = 1 - done / total
            if job.stopped:
                raise StoppedError
            now = time.perf_counter()
            if not job.small:
                others += self._let_small_ones_run(now - (worker.moved or now), worker)
            worker.moved = time.perf_counter()

        with self._changed:
            self._running += batch
        failure: Exception | None = None
        try:
            images = self._run(batch[0].model, [job.image for job in batch], between_tiles)
        except Exception as error:
            failure = error
        finally:
            with self._changed:
                self._running = [job for job in self._running if job not in batch]
            worker.moved = None
        if failure and len(batch) > 1:
            logger.warning(
                "a batch of %d images failed (%s); each image is retried alone.",
                len(batch), failure,
            )  # fmt: skip
            for job in batch:
                self._finish([job], worker)
            return
        took = time.perf_counter() - start - others
        for number, job in enumerate(batch):
            with suppress(InvalidStateError):  # the job was stopped and has its error
                if failure:
                    job.future.set_exception(failure)
                else:
                    waited = start - job.queued
                    job.future.set_result(Upscaled(images[number], waited, took, len(batch)))

    def _let_small_ones_run(self, tile: float, worker: _Worker) -> float:
        """Run waiting small jobs after a tile of `tile` seconds; return the seconds they took."""
        start = time.perf_counter()
        while (spent := time.perf_counter() - start) < _SMALL_SHARE * tile:
            with self._changed:
                batch = self._take(small=True)
            if not batch:
                break
            self._finish(batch, worker)
        return spent
