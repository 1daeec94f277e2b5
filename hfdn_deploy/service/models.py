"""The models that a service has, open while they are used and memory allows."""

import gc
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

import psutil

from hfdn_deploy.backends import BACKENDS
from hfdn_deploy.errors import BackendError, InputError
from hfdn_deploy.images import Image
from hfdn_deploy.machine import free_memory, trim_heap
from hfdn_deploy.options import ModelOptions
from hfdn_deploy.service.limits import RequestError
from hfdn_deploy.service.pace import Pace
from hfdn_deploy.tiling import Progress
from hfdn_deploy.upscaler import Upscaler

BATCH = 8

# What open models may keep between images: a part of the memory that is free, and at most this.
_SHARE, _MOST = 1 / 4, 2**30


@dataclass(frozen=True)
class ModelSettings:
    """Which models to open."""

    models: tuple[ModelOptions, ...] = tuple(ModelOptions(model=scale) for scale in (4, 2, 3))
    """Requests that name no scale or precision get the first of those that are left."""
    batch: int | None = None
    """Most images in a batch; None for 8, or what the backend takes."""


@dataclass(eq=False)
class Model:
    """A model that is served, whether or not it is open now."""

    options: ModelOptions
    scale: int
    precision: str
    backend: str
    choice: str
    """Which backend runs, and why that one."""
    batch: int
    """Most images that are run at once."""
    concurrency: int
    """How many batches at once are of use."""
    pace: Pace
    up: Upscaler | None = field(default=None, repr=False)
    users: int = 0
    """Threads that it runs in."""


class Models:
    """Models by scale and precision, to be closed; those used last are open."""

    def __init__(self, settings: ModelSettings) -> None:
        """Open each once, so that what cannot run is known before the first request.

        Raises:
            HFDNError: as `Upscaler.load`.
            InputError: the batch is of no image.
        """
        if settings.batch is not None and settings.batch < 1:
            raise InputError(f"a batch of {settings.batch} images is none; ask for 1 or more.")
        self._lock = threading.Lock()
        self._process = psutil.Process()
        # Resident bytes of this process without models, and with them before any is closed.
        self._base = self._resident()
        self._allowed = int(min(_MOST, _SHARE * free_memory()))
        # In the order in which they were used, the last one last.
        self._opened: list[Model] = []
        self._known: dict[tuple[int, str], Model] = {}
        try:
            for options in settings.models:
                model = self._first(options, settings.batch)
                if self._known.setdefault((model.scale, model.precision), model) is not model:
                    self._close(model)  # the precision that "auto" chose is served already
                self._fit()
        except BaseException:
            self.close()
            raise

    def _first(self, options: ModelOptions, batch: int | None) -> Model:
        up = Upscaler.open(options)
        side = options.tile if isinstance(options.tile, int) else None
        model = Model(
            replace(options, precision=up.backend.precision),
            up.scale,
            up.backend.precision,
            up.backend.name,
            up.choice,
            batch or BACKENDS[up.backend.name].max_batch or BATCH,
            up.backend.concurrency,
            Pace.measure(up, side),
            up,
        )
        self._opened.append(model)
        return model

    def choose(self, scale: int | None, precision: str | None) -> Model:
        """The model for what a request names; the first that fits where it names nothing.

        Raises:
            RequestError: 422, there is no such model here.
        """
        for (own_scale, own_precision), model in self._known.items():
            if scale in (own_scale, None) and precision in (own_precision, None):
                return model
        known = ", ".join(f"scale {s} in {p}" for s, p in self._known)
        asked = {"scale": scale, "precision": precision}
        wanted = " and ".join(f"{name} {value}" for name, value in asked.items() if value)
        raise RequestError(422, f"there is no model of {wanted}; there is {known}.")

    @property
    def workers(self) -> int:
        """How many batches at once are of use."""
        return max(model.concurrency for model in self._known.values())

    @property
    def open(self) -> int:
        """How many are open."""
        return len(self._opened)

    def run(self, model: Model, images: Sequence[Image], progress: Progress) -> list[Image]:
        """Upscale images of one size, in tiles that take little time each.

        Args:
            model: of these.
            images: as for `Upscaler.batch`.
            progress: called after each tile, where there are several; what it raises ends this.

        Raises:
            BackendError: it cannot be opened again, and as `Upscaler.batch`.
            InputError: as `Upscaler.batch`.
        """
        away = 0.0

        def noted(done: int, total: int) -> None:
            nonlocal away
            left = perf_counter()
            progress(done, total)
            away += perf_counter() - left

        with self._using(model) as up:
            start = perf_counter()
            if len(images) > 1:
                results = up.batch(images)
            else:
                (image,) = images
                plan = up.plan(image.shape, held_as=image.dtype, largest=model.pace.side)
                results = [up.stream(image, plan, noted).whole()]
            seconds = perf_counter() - start - away
        height, width = images[0].shape[:2]
        model.pace.learn(height, width, seconds / len(images))
        return results

    @contextmanager
    def _using(self, model: Model) -> Iterator[Upscaler]:
        with self._lock:
            if model.up is None:
                try:
                    model.up = Upscaler.open(model.options)
                except InputError as error:  # it is not the image that is wrong
                    raise BackendError(error.reason, error.advice) from error
            else:
                self._opened.remove(model)
            self._opened.append(model)
            model.users += 1
        try:
            yield model.up
        finally:
            with self._lock:
                model.users -= 1
                if self._excess() > 0:
                    self._fit()

    def trim(self) -> None:
        """Give back the memory that models keep for their next image."""
        with self._lock:
            self._fit()

    def _fit(self) -> None:
        """Trim what does not run; if that is all, close what was used longest ago if need be.

        What was used last stays open. What closing does not free is none of the models'.
        """
        idle = [model for model in self._opened if not model.users]
        for model in idle:
            if model.up:
                model.up.backend.trim()
        trim_heap()
        if len(idle) < len(self._opened):
            return  # what runs takes memory that comes back
        for model in idle[:-1]:
            if self._excess() <= 0:
                return
            self._close(model)
            gc.collect()  # a backend and its tiling know each other
            trim_heap()
        self._base += max(0, self._excess())

    def _close(self, model: Model) -> None:
        self._opened.remove(model)
        if model.up:
            model.up.close()
            model.up = None

    def _excess(self) -> int:
        return self._resident() - self._base - self._allowed

    def _resident(self) -> int:
        return int(self._process.memory_info().rss)

    def describe(self) -> list[dict[str, Any]]:
        """JSON-ready facts of each model, the default first."""
        return [
            {
                "scale": model.scale,
                "precision": model.precision,
                "backend": model.backend,
                "choice": model.choice,
                "batch": model.batch,
            }
            for model in self._known.values()
        ]

    def close(self) -> None:
        """Close the models; one that runs, for its backend hangs, is left alone."""
        with self._lock:
            for model in [model for model in self._opened if not model.users]:
                self._close(model)
