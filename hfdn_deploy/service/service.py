"""What stands behind the routes: from the bytes of a picture to the bytes of a larger one."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import pairwise
from time import perf_counter
from typing import Any, Self

from hfdn_deploy.errors import InputError
from hfdn_deploy.service.batcher import Batcher, Upscaled
from hfdn_deploy.service.limits import Admission, Limits, RequestError
from hfdn_deploy.service.metrics import Metrics
from hfdn_deploy.service.models import Models, ModelSettings
from hfdn_deploy.service.pictures import Format, decode, encode
from hfdn_deploy.service.uploads import CLIENT_GONE
from hfdn_deploy.upscaler import Upscaler


@dataclass(frozen=True)
class Settings:
    """All that a service is made from; can be pickled, so that a cluster can send it."""

    models: ModelSettings = field(default_factory=ModelSettings)
    limits: Limits = field(default_factory=Limits)
    token: str | None = field(default=None, repr=False)
    """What clients must show as a bearer token, if anything."""


@dataclass(frozen=True)
class Answer:
    """A picture to send back."""

    data: bytes
    format: Format
    up: Upscaler
    """The model that made it."""
    milliseconds: dict[str, float]
    """By stage: decode, queue, upscale, encode."""


class Service:
    """Open models, the queue before them, and the counters; to be closed.

    Its methods are for one event loop, as its gates are.
    """

    def __init__(self, settings: Settings) -> None:
        """Open the models; raises as `Models`."""
        self.settings = settings
        self.limits = settings.limits
        self.models = Models(settings.models)
        self.batcher = Batcher(Upscaler.batch, self.models.most, self.models.workers)
        self.queue = Admission("pictures", self.limits.queue)
        self.uploads = Admission("uploads", self.limits.uploads)
        self.metrics = Metrics()
        self.metrics.watch("hfdn_queue", "Pictures being served", lambda: self.queue.inside)
        self.metrics.watch("hfdn_uploads", "Bodies being received", lambda: self.uploads.inside)

    @property
    def retry_after(self) -> int:
        """Seconds after which the queue will have moved on by half."""
        return max(1, math.ceil(self.batcher.pace * self.queue.inside / 2))

    async def upscale(
        self,
        receive: Callable[[], Awaitable[bytes]],
        gone: Callable[[], Awaitable[None]],
        up: Upscaler,
        form: Format | None,
    ) -> Answer:
        """Serve one request.

        Args:
            receive: gives the bytes of the picture.
            gone: returns when the client has left.
            up: the model, of `self.models`.
            form: the format to answer in; None for that of the picture.

        Raises:
            RequestError: 429, busy; 503, not done in time; and what `receive`, `decode` and
                `encode` refuse.
            BackendError: the backend failed.
        """
        self.queue.check(self.retry_after)  # before the client has sent everything in vain
        with self.uploads.entered(self.retry_after):
            data = await receive()
        with self.queue.entered(self.retry_after):
            times = [perf_counter()]
            image, answer = await asyncio.to_thread(decode, data, self.limits, up.scale, form)
            times.append(perf_counter())
            result = await self._run(up, self.batcher.submit(up, image), gone)
            self.metrics.upscaled(up, result)
            times.append(perf_counter())
            encoded = await asyncio.to_thread(encode, result.image, answer)
            times.append(perf_counter())
        decoding, running, encoding = (1000 * (b - a) for a, b in pairwise(times))
        upscaling = 1000 * result.took
        milliseconds = {
            "decode": decoding,
            "queue": running - upscaling,
            "upscale": upscaling,
            "encode": encoding,
        }
        return Answer(encoded, answer, up, milliseconds)

    async def _run(
        self, up: Upscaler, job: Future[Upscaled], gone: Callable[[], Awaitable[None]]
    ) -> Upscaled:
        """The job's result, unless the time is over or the client leaves before."""
        done = asyncio.wrap_future(job)
        left = asyncio.ensure_future(gone())
        either: set[asyncio.Future[Any]] = {done, left}
        try:
            await asyncio.wait(
                either,
                timeout=self.limits.answer_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if done.done():
                return done.result()
            if left.done():
                raise RequestError(CLIENT_GONE, "the client left while it waited.")
            raise RequestError(
                503,
                f"the picture was not done within {self.limits.answer_seconds:g} s; send a "
                "smaller one, or try again later.",
                {"Retry-After": str(self.retry_after)},
            )
        except InputError as error:  # too large for the memory that is free, or for the backend
            raise RequestError(413, str(error)) from None
        finally:
            done.cancel()
            left.cancel()

    def close(self) -> None:
        """Finish what is in the queue, then close the models."""
        self.batcher.close()
        self.models.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
