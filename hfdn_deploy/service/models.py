"""The models of a service, which stay open while memory allows."""

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

# Memory that open models may keep between images: a share of the free memory, and a maximum.
_SHARE, _MOST = 1 / 4, 2**30


@dataclass(frozen=True)
class ModelSettings:
    """The models to open."""

    models: tuple[ModelOptions, ...] = tuple(ModelOptions(model=scale) for scale in (4, 2, 3))
    """A request gets the first model that fits its scale and precision, if it names them."""
    batch: int | None = None
    """The most images in a batch; None for the backend's maximum, or 8 if it has none."""


@dataclass(eq=False)
class Model:
    """A served model, open or not."""

    options: ModelOptions
    scale: int
    precision: str
    backend: str
    choice: str
    """The chosen backend, and the reason for the choice."""
    batch: int
    """The most images in a batch."""
    concurrency: int
    """The number of concurrent batches that the backend can make use of."""
    pace: Pace
    up: Upscaler | None = field(default=None, repr=False)
    users: int = 0
    """The number of threads that run it."""


class Models:
    """Models by scale and precision, the last used of which are open; must be closed."""

    def __init__(self, settings: ModelSettings) -> None:
        """Open each model once, so that errors appear before the first request.

        Raises:
            HFDNError: a model cannot be opened; see `Upscaler.load`.
            InputError: the batch is less than 1.
        """
        if settings.batch is not None and settings.batch < 1:
            raise InputError(f"a batch of {settings.batch} images is empty; choose 1 or more.")
        self._lock = threading.Lock()
        self._process = psutil.Process()
        # Resident bytes of this process without models, and the bytes that models may add.
        self._base = self._resident()
        self._allowed = int(min(_MOST, _SHARE * free_memory()))
        # In the order of use, the last used model last.
        self._opened: list[Model] = []
        self._known: dict[tuple[int, str], Model] = {}
        try:
            for options in settings.models:
                model = self._first(options, settings.batch)
                if self._known.setdefault((model.scale, model.precision), model) is not model:
                    self._close(model)  # "auto" chose a precision that is already served
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
        """Return the first model with this scale and precision; None fits any.

        Raises:
            RequestError: 422, no model fits.
        """
        for (own_scale, own_precision), model in self._known.items():
            if scale in (own_scale, None) and precision in (own_precision, None):
                return model
        known = ", ".join(f"scale {s} in {p}" for s, p in self._known)
        asked = {"scale": scale, "precision": precision}
        wanted = " and ".join(f"{name} {value}" for name, value in asked.items() if value)
        raise RequestError(422, f"no model has {wanted}; choose {known}.")

    @property
    def workers(self) -> int:
        """The number of concurrent batches that the models can make use of."""
        return max(model.concurrency for model in self._known.values())

    @property
    def open(self) -> int:
        """The number of open models."""
        return len(self._opened)

    def run(self, model: Model, images: Sequence[Image], progress: Progress) -> list[Image]:
        """Upscale images of one size, in tiles that take little time each.

        Args:
            model: one of these models.
            images: as for `Upscaler.batch`.
            progress: called after each tile, if there are several; an exception ends the run.

        Raises:
            BackendError: the model cannot be opened again, or the backend failed.
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
                except InputError as error:  # the image is not at fault
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
        """Release the memory that models keep for their next image."""
        with self._lock:
            self._fit()

    def _fit(self) -> None:
        """Trim idle models; if none runs, close the least recently used while memory is exceeded.

        The last used model stays open. Memory that closing does not release does not belong to
        the models, so it is added to the base.
        """
        idle = [model for model in self._opened if not model.users]
        for model in idle:
            if model.up:
                model.up.backend.trim()
        trim_heap()
        if len(idle) < len(self._opened):
            return  # running models release their memory later
        for model in idle[:-1]:
            if self._excess() <= 0:
                return
            self._close(model)
            gc.collect()  # a backend and its tiling refer to each other
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
        """Return JSON-ready facts of each model, the default first."""
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
        """Close the models, except those that still run because their backend hangs."""
        with self._lock:
            for model in [model for model in self._opened if not model.users]:
                self._close(model)
