"""One queue before the models: jobs in, batches of equal shape to the worker threads.

Models take turns, and the jobs of a model come in their order. A large image is upscaled in tiles,
and between two of them small ones have a turn, or what nobody waits for any more is stopped.
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

# A larger image keeps a processor busy by itself, and its batch would cost memory.
BATCH_PIXELS = 2**16

# How long small jobs may take between two tiles, as a multiple of what a tile takes.
_SMALL_SHARE = 2
# After so long without a job, memory is given back.
_IDLE_SECONDS = 1.0

K = TypeVar("K", bound=Hashable)


class StoppedError(Exception):
    """A job was stopped before it was done."""


@dataclass(frozen=True)
class Upscaled:
    """What a job gives."""

    image: Image
    waited: float
    """Seconds in the queue."""
    took: float
    """Seconds that its batch took, without those that others had between its tiles."""
    batch: int
    """Images in that batch."""


@dataclass(eq=False)
class Job(Generic[K]):
    """An image that waits or is upscaled."""

    model: K
    image: Image
    seconds: float
    """What it is expected to take."""
    small: bool
    """Whether it runs in one go, and so may between the tiles of another."""
    future: Future[Upscaled] = field(default_factory=Future)
    queued: float = field(default_factory=time.perf_counter)
    left: float = 1.0
    """The share of it that is to be done."""
    stopped: bool = False

    def stop(self) -> None:
        """Take it out of the queue, or end it after the tile that runs."""
        self.stopped = True
        self.future.cancel()

    def fits(self, other: "Job[K]") -> bool:
        """Whether both can run in one batch."""
        kind = (self.model, self.image.shape, self.image.dtype)
        return kind == (other.model, other.image.shape, other.image.dtype)


@dataclass
class _Worker:
    thread: threading.Thread
    moved: float | None = None
    """When it began what it does or was last done with a tile; None while it waits."""


class Batcher(Generic[K]):
    """Runs jobs; those of equal model and shape that wait run together.

    It never waits for a batch to fill: a batch is what came while the one before it ran. The
    queue has no bound of its own; who submits keeps one (`limits.Admission`).
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
            run: upscales images of one shape and dtype with one model, and calls its last argument
                after each tile, if there are several; what that raises ends it.
            most: images that a batch for this model may hold.
            idle: called when there has been nothing to do for a while after a job.
            workers: how many batches run at once.
        """
        self._run = run
        self._most = most
        self._idle = idle
        # By model, that whose turn is next first.
        self._jobs: dict[K, deque[Job[K]]] = {}
        self._running: list[Job[K]] = []
        self._changed = threading.Condition()
        self._closed = False
        self._workers = [_Worker(threading.Thread()) for _ in range(workers)]
        for worker in self._workers:
            # One that hangs in a backend must not keep the process.
            worker.thread = threading.Thread(target=self._work, args=[worker], daemon=True)
            worker.thread.start()

    @property
    def alive(self) -> bool:
        """Whether jobs are still taken and worked on."""
        return not self._closed and all(worker.thread.is_alive() for worker in self._workers)

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        with self._changed:
            return sum(map(len, self._jobs.values()))

    @property
    def stuck(self) -> float:
        """Seconds for which a worker has done nothing but one tile or one batch."""
        moved = [moved for worker in self._workers if (moved := worker.moved) is not None]
        return time.perf_counter() - min(moved) if moved else 0.0

    def submit(self, model: K, image: Image, seconds: float = 0.0, small: bool = True) -> Job[K]:
        """Queue a job; see `Job` for what the arguments mean.

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
        """How long a job would wait that came now."""
        with self._changed:
            waiting = [job for jobs in self._jobs.values() for job in jobs]
            if small:
                seconds = sum(job.seconds for job in waiting if job.small)
                seconds *= 1 + 1 / _SMALL_SHARE
            else:
                seconds = sum(job.seconds * job.left for job in (*waiting, *self._running))
        return seconds / len(self._workers)

    def close(self, patience: float) -> None:
        """Take no more jobs, and end the threads.

        Args:
            patience: seconds for what was submitted to be finished; then it is stopped. A thread
                that hangs in its backend for as long again is left behind.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._join(patience)
        self.stop()
        self._join(patience)

    def stop(self) -> None:
        """Take no more jobs, and fail with `StoppedError` those that wait or run."""
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
        """Free what a cancelled job holds, now rather than at its turn."""
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
        except Exception as error:  # the next job will show whether it matters
            logger.warning("the memory of the last image could not be given back: %s", error)

    def _take(self, small: bool = False) -> list[Job[K]]:
        """The next model's oldest job and those that can run with it, under the lock.

        Args:
            small: whether only small jobs are wanted.
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
            self._jobs[model] = self._jobs.pop(model)  # the others' turn
            # Cancelling has its last chance here.
            return [job for job in batch if job.future.set_running_or_notify_cancel()]
        return []

    def _finish(self, batch: list[Job[K]], worker: _Worker) -> None:
        """Run a batch; each job gets its result or its error."""
        start = worker.moved = time.perf_counter()
        others = 0.0  # what small jobs took meanwhile

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
            logger.warning("a batch of %d failed (%s); each runs alone.", len(batch), failure)
            for job in batch:
                self._finish([job], worker)
            return
        took = time.perf_counter() - start - others
        for number, job in enumerate(batch):
            with suppress(InvalidStateError):  # stopped, and its end told
                if failure:
                    job.future.set_exception(failure)
                else:
                    waited = start - job.queued
                    job.future.set_result(Upscaled(images[number], waited, took, len(batch)))

    def _let_small_ones_run(self, tile: float, worker: _Worker) -> float:
        """Run small jobs that wait, after a tile that took so many seconds; return theirs."""
        start = time.perf_counter()
        while (spent := time.perf_counter() - start) < _SMALL_SHARE * tile:
            with self._changed:
                batch = self._take(small=True)
            if not batch:
                break
            self._finish(batch, worker)
        return spent
