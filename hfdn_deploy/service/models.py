"""The models that a service has open, and batches through them."""

from dataclasses import dataclass
from typing import Any

from hfdn_deploy.backends import BACKENDS
from hfdn_deploy.errors import InputError
from hfdn_deploy.options import ModelOptions
from hfdn_deploy.service.limits import RequestError
from hfdn_deploy.upscaler import Upscaler

BATCH = 8


@dataclass(frozen=True)
class ModelSettings:
    """Which models to open."""

    models: tuple[ModelOptions, ...] = tuple(ModelOptions(model=scale) for scale in (4, 2, 3))
    """Requests that name no scale or precision get the first of those that are left."""
    batch: int | None = None
    """Most images in a batch; None for 8, or what the backend takes."""


class Models:
    """Opened upscalers by scale and precision, to be closed."""

    def __init__(self, settings: ModelSettings) -> None:
        """Open them all, so that what cannot run is known before the first request.

        Raises:
            HFDNError: as `Upscaler.load`.
            InputError: the batch is of no image.
        """
        if settings.batch is not None and settings.batch < 1:
            raise InputError(f"a batch of {settings.batch} images is none; ask for 1 or more.")
        self._batch = settings.batch
        self._opened: dict[tuple[int, str], Upscaler] = {}
        try:
            for options in settings.models:
                up = Upscaler.open(options)
                self._opened[up.scale, up.backend.precision] = up
        except BaseException:
            self.close()
            raise

    def choose(self, scale: int | None, precision: str | None) -> Upscaler:
        """The model for what a request names; the first that fits where it names nothing.

        Raises:
            RequestError: 422, there is no such model here.
        """
        for (own_scale, own_precision), up in self._opened.items():
            if scale in (own_scale, None) and precision in (own_precision, None):
                return up
        known = ", ".join(f"scale {s} in {p}" for s, p in self._opened)
        wanted = f"scale {scale or 'any'} in {precision or 'any precision'}"
        raise RequestError(422, f"there is no model for {wanted}; there is {known}.")

    @property
    def workers(self) -> int:
        """How many batches at once are of use."""
        return max(up.backend.concurrency for up in self._opened.values())

    def most(self, up: Upscaler) -> int:
        """Images that a batch may hold."""
        return self._batch or BACKENDS[up.backend.name].max_batch or BATCH

    def describe(self) -> list[dict[str, Any]]:
        """JSON-ready facts of each model, the default first."""
        return [
            {
                "scale": scale,
                "precision": precision,
                "backend": up.backend.name,
                "choice": up.choice,
                "batch": self.most(up),
            }
            for (scale, precision), up in self._opened.items()
        ]

    def close(self) -> None:
        """Close the models."""
        for up in self._opened.values():
            up.close()
