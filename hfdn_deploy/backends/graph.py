"""What backends that run a bundle's graph share: the parts of it that tiles need."""

import os
from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfdn_deploy.graphs import INSIDE, POOLED, part_of
from hfdn_deploy.manifest import ModelFile


def threads() -> int:
    """Threads that an engine on a CPU may use: $OMP_NUM_THREADS, or 0 for its own choice.

    So it is elsewhere; a cluster sets it to the cores of a worker.
    """
    found = os.environ.get("OMP_NUM_THREADS", "")
    return int(found) if found.isdecimal() else 0


class GraphBackend(ABC):
    """An engine with one graph of a bundle; a `TilingBackend`.

    The sessions that tiles need are opened with the first tile.
    """

    concurrency = 1
    memory: int | None = None
    largest: int | None = None

    def __init__(
        self, name: str, precision: str, scale: int, data: bytes, entry: ModelFile
    ) -> None:
        """Open a graph.

        Args:
            name: of the backend.
            precision: what the graph is to be computed in.
            scale: upscaling factor.
            data: the graph in ONNX.
            entry: what its bundle says of it, or of what it is derived from.

        Raises:
            BackendError: the engine refuses the graph, or would not run it as asked.
        """
        self.name = name
        self.precision = precision
        self.scale = scale
        self.halo = entry.halo
        self.pools = entry.pooled is not None
        self._entry = entry
        self._data = data
        self.session = self._open(data)

    @abstractmethod
    def _open(self, data: bytes) -> Any:
        """A session of the engine on a graph in ONNX."""

    @abstractmethod
    def _run(self, session: Any, feeds: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """The one output of a session, from and to the host's memory."""

    @cached_property
    def _statistics(self) -> Any:
        return self._open(part_of(self._data, "statistics"))

    @cached_property
    def _tile(self) -> Any:
        return self._open(part_of(self._data, "tile"))

    def run(self, lr: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Backend.run`."""
        return self._run(self.session, {self._entry.input.name: lr})

    def pooled_sums(
        self, lr: NDArray[np.float32], inside: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """See `TilingBackend.pooled_sums`."""
        return self._run(self._statistics, {self._entry.input.name: lr, INSIDE: inside})

    def run_tile(
        self, lr: NDArray[np.float32], pooled: NDArray[np.float32] | None
    ) -> NDArray[np.float32]:
        """See `TilingBackend.run_tile`."""
        if pooled is None:
            return self.run(lr)
        return self._run(self._tile, {self._entry.input.name: lr, POOLED: pooled})

    def close(self) -> None:
        """See `Backend.close`."""
        del self.session
        for part in ("_statistics", "_tile"):
            self.__dict__.pop(part, None)
