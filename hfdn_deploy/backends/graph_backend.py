"""What backends that run a bundle's graph share: the parts of it that tiles need."""

import os
from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from hfdn_deploy.backends.registry import Features, SplitNetwork
from hfdn_deploy.bundle import ModelFile
from hfdn_deploy.graph import INSIDE, POOLED, halo_of, part_of, split_graphs


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
    overhead = 0
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
        self.split: SplitNetwork | None = None
        if entry.pooled is not None:
            self.split = GraphSplit(self, data, entry.pooled)
        self._entry = entry
        self._data = data
        self.session = self.open_session(data)

    @abstractmethod
    def open_session(self, data: bytes) -> Any:
        """A session of the engine on a graph in ONNX."""

    @abstractmethod
    def run_session(
        self, session: Any, lr: NDArray[np.float32], others: Features | None = None
    ) -> list[NDArray[Any]]:
        """The outputs of a session, from and to the host's memory.

        Args:
            session: from `open_session`.
            lr: luma (N, 1, H, W) in [0, 1].
            others: what the graph takes beside it, by name.
        """

    @cached_property
    def _statistics(self) -> Any:
        return self.open_session(part_of(self._data, "statistics"))

    @cached_property
    def _tile(self) -> Any:
        return self.open_session(part_of(self._data, "tile"))

    def run(self, lr: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Backend.run`."""
        (sr,) = self.run_session(self.session, lr)
        return sr

    def pooled_sums(
        self, lr: NDArray[np.float32], inside: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """See `TilingBackend.pooled_sums`."""
        (sums,) = self.run_session(self._statistics, lr, {INSIDE: inside})
        return sums

    def run_tile(
        self, lr: NDArray[np.float32], pooled: NDArray[np.float32] | None
    ) -> NDArray[np.float32]:
        """See `TilingBackend.run_tile`."""
        if pooled is None:
            return self.run(lr)
        (sr,) = self.run_session(self._tile, lr, {POOLED: pooled})
        return sr

    def close(self) -> None:
        """See `Backend.close`."""
        del self.session
        for part in ("_statistics", "_tile"):
            self.__dict__.pop(part, None)
        self.split = None


class GraphSplit:
    """The graph of a backend in two; a `SplitNetwork`. The graphs are cut when they are needed."""

    def __init__(self, backend: GraphBackend, data: bytes, pooled: str) -> None:
        self._backend = backend
        self._data = data
        self._pooled = pooled

    @cached_property
    def _graphs(self) -> tuple[onnx.ModelProto, onnx.ModelProto]:
        return split_graphs(onnx.load_model_from_string(self._data), self._pooled)

    @cached_property
    def _features(self) -> dict[str, onnx.TypeProto.Tensor]:
        """Types and shapes of the features, in the order in which they are given."""
        return {value.name: value.type.tensor_type for value in self._graphs[0].graph.output[1:]}

    @cached_property
    def halo(self) -> int:
        """See `SplitNetwork.halo`."""
        return halo_of(self._graphs[1], self._backend.scale)

    @cached_property
    def memory(self) -> int:
        """See `SplitNetwork.memory`."""
        types = self._features.values()
        return sum(
            kind.shape.dim[1].dim_value * helper.tensor_dtype_to_np_dtype(kind.elem_type).itemsize
            for kind in types
        )

    @cached_property
    def _trunk(self) -> Any:
        return self._backend.open_session(self._graphs[0].SerializeToString())

    @cached_property
    def _heads(self) -> Any:
        return self._backend.open_session(self._graphs[1].SerializeToString())

    def trunk(
        self, lr: NDArray[np.float32], inside: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], Features]:
        """See `SplitNetwork.trunk`."""
        sums, *features = self._backend.run_session(self._trunk, lr, {INSIDE: inside})
        return sums, dict(zip(self._features, features, strict=True))

    def heads(
        self, lr: NDArray[np.float32], features: Features, pooled: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """See `SplitNetwork.heads`."""
        (sr,) = self._backend.run_session(self._heads, lr, {POOLED: pooled, **features})
        return sr
