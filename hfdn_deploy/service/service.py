"""What stands behind the routes: from the bytes of a picture to the bytes of a larger one."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from time import perf_counter
from typing import Any, Self

from hfdn_deploy.cuda import why_lost
from hfdn_deploy.errors import InputError
from hfdn_deploy.images import Image
from hfdn_deploy.service.batcher import Batcher, StoppedError, Upscaled
from hfdn_deploy.service.limits import Admission, Limits, RequestError
from hfdn_deploy.service.metrics import Metrics
from hfdn_deploy.service.models import Model, Models, ModelSettings
from hfdn_deploy.service.pictures import Format, decode, encode
from hfdn_deploy.service.uploads import CLIENT_GONE

STUCK_SECONDS = 60.0
"""How long a tile, a batch or the opening of a model may take at least."""


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
    model: Model
    """What made it."""
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
        self.batcher = Batcher(
            self.models.run, lambda model: model.batch, self.models.trim, self.models.workers
        )
        self.queue = Admission("images", self.limits.queue)
        self.uploads = Admission("uploads", self.limits.uploads)
        self.metrics = Metrics()
        self.metrics.watch("hfdn_queue", "Images being served", lambda: self.queue.inside)
        self.metrics.watch("hfdn_uploads", "Bodies being received", lambda: self.uploads.inside)
        self.metrics.watch("hfdn_open_models", "Models in memory", lambda: self.models.open)

    @property
    def retry_after(self) -> int:
        """Seconds after which the queue will have moved on by half."""
        return max(1, math.ceil(self.batcher.seconds_ahead(small=False) / 2))

    @property
    def dead(self) -> str:
        """Why only a restart helps; empty if it lives."""
        if lost := why_lost():
            return lost
        stuck = self.batcher.stuck
        if stuck > max(STUCK_SECONDS, self.limits.answer_seconds):
            return f"the backend has not finished a tile for {stuck:.0f} s; restart the service."
        return "" if self.batcher.alive else "the service takes no images any more; restart it."

    @property
    def unready(self) -> str:
        """Why requests should go elsewhere for now; empty if they are welcome."""
        full = self.queue.inside >= self.queue.capacity
        return self.dead or (f"{self.queue.inside} images are being served." if full else "")

    async def upscale(
        self,
        receive: Callable[[], Awaitable[bytes]],
        gone: Callable[[], Awaitable[None]],
        model: Model,
        form: Format | None,
    ) -> Answer:
        """Serve one request.

        Args:
            receive: gives the bytes of the image.
            gone: returns when the client has left.
            model: of `self.models`.
            form: the format to answer in; None for that of the image.

        Raises:
            RequestError: 413, it is too large, or would take longer than it may; 429, busy; 503,
                not done in time, or not to be expected; and what `receive`, `decode` and `encode`
                refuse.
            BackendError: the backend failed.
        """
        self.queue.check(self.retry_after)  # before the client has sent everything in vain
        with self.uploads.entered(self.retry_after):
            data = await receive()
        with self.queue.entered(self.retry_after):
            times = [perf_counter()]
            image, answer, colour = await asyncio.to_thread(
                decode, data, partial(self._check_size, model), model.scale, form
            )
            times.append(perf_counter())
            result = await self._run(model, image, gone)
            self.metrics.upscaled(model, result)
            times.append(perf_counter())
            encoded = await asyncio.to_thread(encode, result.image, answer, colour)
            times.append(perf_counter())
        decoding, running, encoding = (1000 * (b - a) for a, b in pairwise(times))
        upscaling = 1000 * result.took
        milliseconds = {
            "decode": decoding,
            "queue": running - upscaling,
            "upscale": upscaling,
            "encode": encoding,
        }
        return Answer(encoded, answer, model, milliseconds)

    def _check_size(self, model: Model, width: int, height: int) -> None:
        """Refuse an image for its size, or for the time that it is expected to take.

        Raises:
            RequestError: 413, whenever it comes; 503, now.
        """
        self.limits.check_size(width, height, model.scale)
        most = self.limits.answer_seconds
        seconds = model.pace.seconds(height, width)
        if seconds > most:
            self._time_anew(model)
            # That may change where the machine was less busy once.
            ever = model.pace.quiet_seconds(height, width) <= most
            raise RequestError(
                503 if ever else 413,
                f"{width}×{height} pixels at scale {model.scale} in {model.precision} would take "
                f"about {seconds:.2g} s here, and {most:g} s are the limit; send a smaller image.",
                {"Retry-After": str(math.ceil(most))} if ever else None,
            )
        ahead = self.batcher.seconds_ahead(model.pace.tiles(height, width) == 1)
        if ahead + seconds > most:
            later = math.ceil(ahead + seconds - most)
            raise RequestError(
                503,
                f"the image would be done in about {ahead + seconds:.2g} s, and {most:g} s are the "
                f"limit; try again in {later} s.",
                {"Retry-After": str(later)},
            )

    def _time_anew(self, model: Model) -> None:
        """Have a small image upscaled now and then, or estimates that are too high would stay."""
        image = model.pace.probe()
        if image is not None:
            with suppress(StoppedError):
                self.batcher.submit(model, image)

    async def _run(
        self, model: Model, image: Image, gone: Callable[[], Awaitable[None]]
    ) -> Upscaled:
        """The image upscaled, unless the time is over or the client leaves before."""
        height, width = image.shape[:2]
        small = model.pace.tiles(height, width) == 1
        try:
            job = self.batcher.submit(model, image, model.pace.seconds(height, width), small)
        except StoppedError:
            raise self._stopped() from None
        done = asyncio.wrap_future(job.future)
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
                f"the image was not done within {self.limits.answer_seconds:g} s; send a "
                "smaller one, or try again later.",
                {"Retry-After": str(self.retry_after)},
            )
        except StoppedError:
            raise self._stopped() from None
        except InputError as error:  # too large for the memory that is free, or for the backend
            raise RequestError(413, str(error)) from None
        finally:
            job.stop()
            done.cancel()
            left.cancel()

    def _stopped(self) -> RequestError:
        return RequestError(
            503,
            "the service ends; send the image again.",
            {"Retry-After": str(math.ceil(self.limits.shutdown_seconds))},
        )

    def close(self) -> None:
        """Finish what is in the queue, as far as there is time, then close the models."""
        self.batcher.close(self.limits.shutdown_seconds / 2)
        self.models.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
