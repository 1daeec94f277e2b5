"""Opened networks, each on a backend, for whole images or tiles."""

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
        """The backend that runs, and why it was chosen."""
        self.planner = Planner(backend, tile, max_memory)
        self.luma = LumaUpscaler(backend, ensemble)

    @classmethod
    def open(cls, options: ModelOptions) -> Self:
        """Open the model of the options; errors as for `Upscaler.load`."""
        model, precision = options.model, options.precision
        source = open_model(options)
        own = source.manifest.precision if isinstance(source, Engine) else precision or "fp32"
        if precision not in (own, "auto", None):
            raise InputError(
                f"{model} is an engine in {own}, not {precision}; build an engine in {precision}."
            )
        if isinstance(source, Engine) and isinstance(options.tile, int):
            raise BackendError(
                f"{model} contains only the whole network, but tiles need parts of it; use its "
                f"bundle, {source.manifest.bundle}, or leave tile at 'auto' or None."
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
    """Networks by scale, each opened on first use, from any thread."""

    def __init__(self, scales: Sequence[int], open_network: Callable[[int], Network]) -> None:
        """Prepare to open a network for each scale."""
        self.scales = tuple(scales)
        self.closed = False
        self._open = open_network
        self._opened: dict[int, Network] = {}
        self._lock = Lock()
        self._process = os.getpid()

    @classmethod
    def of(cls, options: ModelOptions) -> Self:
        """Return the network of a model, or all of the package; errors as for `Upscaler.load`."""
        if options.model is None:
            return cls(
                pretrained_scales(), lambda scale: Network.open(replace(options, model=scale))
            )
        return cls.only(Network.open(options))

    @classmethod
    def only(cls, network: Network) -> Self:
        """Return one network, already open."""
        networks = cls((network.backend.scale,), lambda scale: network)
        networks[network.backend.scale]
        return networks

    def __getitem__(self, scale: int) -> Network:
        """Return the network of a scale; errors as for `load`, or a BackendError once closed."""
        with self._lock:
            if self.closed:
                raise BackendError(CLOSED)
            if scale not in self._opened:
                self._opened[scale] = self._open(scale)
            return self._opened[scale]

    @property
    def opened(self) -> list[Network]:
        """The open networks, in the order of opening."""
        return list(self._opened.values())

    @property
    def choice(self) -> str:
        """The backend that runs, and why it was chosen; per scale where scales differ."""
        choices = {network.backend.scale: network.choice for network in self.opened}
        if len({*choices.values()}) > 1:
            return "; ".join(f"×{scale}: {choice}" for scale, choice in choices.items())
        return self.first.choice

    @property
    def first(self) -> Network:
        """The network that was opened first; the largest is opened if none is open."""
        return self.opened[0] if self._opened else self[max(self.scales)]

    def check_usable(self, *, threads: bool = False) -> None:
        """Refuse use after closing, and in a fork, where the threads of the parent are missing.

        Args:
            threads: whether our own threads are needed, not only those of the backends.

        Raises:
            BackendError: the networks are closed, or this process is a fork without the threads.
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
        """Stop runs after their current tile, and open no more networks."""
        with self._lock:
            self.closed = True
            for network in self.opened:
                network.luma.closed = True

    def free(self) -> None:
        """Free the backends, none of which may be running."""
        for network in self.opened:
            network.backend.close()
