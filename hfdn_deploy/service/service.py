"""The service behind the routes: from the bytes of an image to the bytes of a larger one."""

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
"""A tile, a batch or the opening of a model counts as stuck after this time, not before."""


@dataclass(frozen=True)
class Settings:
    """The settings of a service; can be pickled, so that a cluster can send them."""

    models: ModelSettings = field(default_factory=ModelSettings)
    limits: Limits = field(default_factory=Limits)
    token: str | None = field(default=None, repr=False)
    """The bearer token that clients must send; None to require none."""


@dataclass(frozen=True)
class Answer:
    """An image to send back."""

    data: bytes
    format: Format
    model: Model
    """The model that made the image."""
    milliseconds: dict[str, float]
    """Time by stage: decode, queue, upscale, encode."""


class Service:
    """Open models, their queue, and the metrics; must be closed.

    All methods must be called from one event loop.
    """

    def __init__(self, settings: Settings) -> None:
        """Open the models; raise as `Models` does."""
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
        """Seconds until half of the queue is expected to be done."""
        return max(1, math.ceil(self.batcher.seconds_ahead(small=False) / 2))

    @property
    def dead(self) -> str:
        """The reason why the service must be restarted; empty if it works."""
        if lost := why_lost():
            return lost
        stuck = self.batcher.stuck
        if stuck > max(STUCK_SECONDS, self.limits.answer_seconds):
            return f"the backend has not finished a tile for {stuck:.0f} s; restart the service."
        return "" if self.batcher.alive else "the service no longer accepts images; restart it."

    @property
    def unready(self) -> str:
        """The reason why requests should go elsewhere now; empty if they are accepted."""
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
            receive: returns the bytes of the image.
            gone: returns when the client has disconnected.
            model: one of `self.models`.
            form: format of the answer; None for that of the image.

        Raises:
            RequestError: 413, the image is too large, or would take longer than allowed; 429, the
                queue is full; 503, the image was not or would not be done in time; and as
                `receive`, `decode` and `encode`.
            BackendError: the backend failed.
        """
        self.queue.check(self.retry_after)  # spare the client a useless upload
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
        """Refuse an image for its size or its expected time.

        Raises:
            RequestError: 413, the image will always be too large; 503, it takes too long now.
        """
        self.limits.check_size(width, height, model.scale)
        most = self.limits.answer_seconds
        seconds = model.pace.seconds(height, width)
        if seconds > most:
            self._time_anew(model)
            # The image may be accepted later if the machine was less busy at some time.
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
                f"the image would take about {ahead + seconds:.2g} s with the wait, and {most:g} s "
                f"are the limit; try again in {later} s.",
                {"Retry-After": str(later)},
            )

    def _time_anew(self, model: Model) -> None:
        """Time a small image now and then, because too high estimates would refuse all images."""
        image = model.pace.probe()
        if image is not None:
            with suppress(StoppedError):
                self.batcher.submit(model, image)

    async def _run(
        self, model: Model, image: Image, gone: Callable[[], Awaitable[None]]
    ) -> Upscaled:
        """Return the upscaled image, unless the time runs out or the client disconnects."""
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
                raise RequestError(CLIENT_GONE, "the client disconnected while it waited.")
            raise RequestError(
                503,
                f"the image was not done within {self.limits.answer_seconds:g} s; send a "
                "smaller image, or try again later.",
                {"Retry-After": str(self.retry_after)},
            )
        except StoppedError:
            raise self._stopped() from None
        except InputError as error:  # too large for the free memory or for the backend
            raise RequestError(413, str(error)) from None
        finally:
            job.stop()
            done.cancel()
            left.cancel()

    def _stopped(self) -> RequestError:
        return RequestError(
            503,
            "the service is shutting down; send the image again.",
            {"Retry-After": str(math.ceil(self.limits.shutdown_seconds))},
        )

    def close(self) -> None:
        """Finish the queue as far as time allows, then close the models."""
        self.batcher.close(self.limits.shutdown_seconds / 2)
        self.models.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
