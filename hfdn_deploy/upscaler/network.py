"""Networks, opened: each runs on a backend, whole images or tiles."""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from threading import Lock
from typing import Self

from hfdn_deploy.backends import Backend, open_backend, open_model
from hfdn_deploy.bundle import pretrained_scales
from hfdn_deploy.engines import Engine
from hfdn_deploy.errors import BackendError, HFDNError, InputError
from hfdn_deploy.options import ModelOptions, Tile
from hfdn_deploy.tiling import CLOSED, LumaUpscaler, Planner

logger = logging.getLogger(__name__)


class Network:
    """One network on one backend."""

    def __init__(
        self, backend: Backend, choice: str, ensemble: bool, tile: Tile, max_memory: int | None
    ) -> None:
        """Wrap an opened backend; errors as for `Planner`."""
        self.backend = backend
        self.choice = choice
        """Which backend runs, and why that one."""
        self.planner = Planner(backend, tile, max_memory)
        self.luma = LumaUpscaler(backend, ensemble)

    @classmethod
    def open(cls, options: ModelOptions) -> Self:
        """Open the model that the options name; errors as for `Upscaler.load`."""
        model, precision = options.model, options.precision
        source = open_model(options)
        own = source.manifest.precision if isinstance(source, Engine) else precision or "fp32"
        if precision not in (own, "auto", None):
            raise InputError(f"{model} is an engine in {own}, not {precision}; build another.")
        if isinstance(source, Engine) and isinstance(options.tile, int):
            raise BackendError(
                f"{model} holds the whole network, and tiles need parts of it; name its bundle, "
                f"{source.manifest.bundle}, or leave tile at 'auto' or None."
            )
        opened, choice = open_backend(options.backend, source, own)
        brief = choice.partition(" (")[0]
        logger.info("backend: %s", choice if logger.isEnabledFor(logging.DEBUG) else brief)
        try:
            return cls(opened, choice, options.ensemble, options.tile, options.max_memory)
        except HFDNError:
            opened.close()
            raise


class Networks:
    """Networks by their scale, each opened when it is first asked for, by whichever thread asks."""

    def __init__(self, scales: Sequence[int], open_network: Callable[[int], Network]) -> None:
        """Prepare to open a network of each scale."""
        self.scales = tuple(scales)
        self.closed = False
        self._open = open_network
        self._opened: dict[int, Network] = {}
        self._lock = Lock()
        self._process = os.getpid()

    @classmethod
    def of(cls, options: ModelOptions) -> Self:
        """The network of a model, or those of the package; errors as for `Upscaler.load`."""
        if options.model is None:
            return cls(
                pretrained_scales(), lambda scale: Network.open(replace(options, model=scale))
            )
        return cls.only(Network.open(options))

    @classmethod
    def only(cls, network: Network) -> Self:
        """One network, which is open."""
        networks = cls((network.backend.scale,), lambda scale: network)
        networks[network.backend.scale]
        return networks

    def __getitem__(self, scale: int) -> Network:
        """The network of a scale; errors as for `Upscaler.load`, or a BackendError once closed."""
        with self._lock:
            if self.closed:
                raise BackendError(CLOSED)
            if scale not in self._opened:
                self._opened[scale] = self._open(scale)
            return self._opened[scale]

    @property
    def opened(self) -> list[Network]:
        """Those that are open, in the order in which they were opened."""
        return list(self._opened.values())

    @property
    def choice(self) -> str:
        """Which backend runs, and why that one; for each scale where they differ."""
        choices = {network.backend.scale: network.choice for network in self.opened}
        if len({*choices.values()}) > 1:
            return "; ".join(f"×{scale}: {choice}" for scale, choice in choices.items())
        return self.first.choice

    @property
    def first(self) -> Network:
        """The one that was opened first; the largest is opened if none is."""
        return self.opened[0] if self._opened else self[max(self.scales)]

    def check_usable(self, *, threads: bool = False) -> None:
        """Refuse what is closed, or would wait for threads that stayed behind in a fork.

        Args:
            threads: whether it needs threads of ours; else the backends' are asked for alone.
        """
        if self.closed:
            raise BackendError(CLOSED)
        if os.getpid() == self._process:
            return
        for network in self.opened:
            if threads or not network.backend.forks:
                reason = f"{network.backend.name} was opened before this process forked"
                raise BackendError(reason, "load it in the worker")

    def stop(self) -> None:
        """Have whatever runs end after its tile, and open no more."""
        with self._lock:
            self.closed = True
            for network in self.opened:
                network.luma.closed = True

    def free(self) -> None:
        """Free the backends, of which none runs any more."""
        for network in self.opened:
            network.backend.close()
