"""Base of the backends that run a bundle's graph, whole or in the parts that tiles need."""

from abc import abstractmethod
from collections.abc import Callable
from threading import Lock
from typing import Any, ClassVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from hfdn_deploy.backends.base import Backend, Features, Parts, SplitNetwork, Tiling
from hfdn_deploy.bundle import ModelFile
from hfdn_deploy.graph import INSIDE, POOLED, halo_of, part_of, split_graphs

OpenSession = Callable[[bytes], Any]
"""Function that opens a session of a backend's library on a graph in ONNX."""


class GraphBackend(Backend):
    """A backend that runs one graph of a bundle."""

    overhead: ClassVar[int] = 0
    """See `Tiling.overhead`."""
    fixes_sizes: bool = False
    """Whether sessions for inputs of a repeated shape are faster."""

    def __init__(self, precision: str, scale: int, data: bytes, entry: ModelFile) -> None:
        """Open a graph.

        Args:
            precision: in which the graph is computed.
            scale: upscaling factor.
            data: the graph in ONNX.
            entry: the bundle's entry of the graph, or of the graph that it is derived from.

        Raises:
            BackendError: the library refuses the graph, or would run it differently than requested.
        """
        self.precision = precision
        self.scale = scale
        self.entry = entry
        self.session = self.open_session(data)
        self.tiling: GraphTiling = GraphTiling(self, data, self.open_session)

    @property
    @abstractmethod
    def memory(self) -> int | None:
        """See `Tiling.memory`."""

    @abstractmethod
    def open_session(self, data: bytes) -> Any:
        """Open a session of the library on a graph in ONNX."""

    def open_repeated(self, data: bytes) -> Any:
        """Open a session for inputs of a repeated shape; only used if `fixes_sizes`."""
        return self.open_session(data)

    @abstractmethod
    def run_session(
        self, session: Any, lr: NDArray[np.float32], others: Features | None = None
    ) -> list[NDArray[Any]]:
        """Run a session on arrays in host memory and return its outputs.

        Args:
            session: from `open_session`.
            lr: luma (N, 1, H, W) in [0, 1].
            others: the other inputs of the graph, by name.
        """

    def run(self, lr: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Backend.run`."""
        (sr,) = self.run_session(self.session, lr)
        return sr

    @property
    def image_session(self) -> Any:
        """Session on `hfdn_deploy.graph.image_graph`, opened on first use."""
        return self.tiling.sessions["image"]

    def close(self) -> None:
        """See `Backend.close`."""
        self.tiling.close()  # other objects may still refer to it
        del self.session, self.tiling


class GraphTiling(Tiling):
    """The parts of a backend's graph, with sessions that are opened on first use."""

    def __init__(self, backend: GraphBackend, data: bytes, open_session: OpenSession) -> None:
        self.scale = backend.scale
        self.halo = backend.entry.halo
        self.pools = backend.entry.pooled is not None
        self.memory = backend.memory
        self.overhead = backend.overhead
        self._backend = backend
        self._data = data
        self._open = open_session
        self.sessions = Parts(lambda part: open_session(part_of(data, part, self.scale)))
        """Sessions by part, one of `hfdn_deploy.graph.PARTS`."""
        self._split: GraphSplit | None = None
        self._splitting = Lock()
        self._repeated: GraphTiling | None = None

    @property
    def split(self) -> "GraphSplit | None":
        """See `Tiling.split`; the graph is cut on first use."""
        pooled = self._backend.entry.pooled
        if pooled is None:
            return None
        with self._splitting:
            if self._split is None:
                self._split = GraphSplit(self._backend, self._open, self._data, pooled)
            return self._split

    @property
    def repeated(self) -> "GraphTiling":
        """See `Tiling.repeated`."""
        if not self._backend.fixes_sizes:
            return self
        with self._splitting:
            if self._repeated is None:
                backend = self._backend
                self._repeated = GraphTiling(backend, self._data, backend.open_repeated)
            return self._repeated

    def close(self) -> None:
        """Free the sessions."""
        self.sessions.clear()
        self._split = self._repeated = None

    def pooled_sums(
        self, lr: NDArray[np.float32], inside: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """See `Tiling.pooled_sums`."""
        session = self.sessions["statistics"]
        (sums,) = self._backend.run_session(session, lr, {INSIDE: inside})
        return sums

    def run_tile(
        self, lr: NDArray[np.float32], pooled: NDArray[np.float32] | None
    ) -> NDArray[np.float32]:
        """See `Tiling.run_tile`."""
        if pooled is None:
            return self._backend.run(lr)
        (sr,) = self._backend.run_session(self.sessions["tile"], lr, {POOLED: pooled})
        return sr


class GraphSplit(SplitNetwork):
    """A backend's graph cut in two, with sessions that are opened on first use."""

    def __init__(
        self, backend: GraphBackend, open_session: OpenSession, data: bytes, pooled: str
    ) -> None:
        trunk, heads = split_graphs(onnx.load_model_from_string(data), pooled)
        types = {value.name: value.type.tensor_type for value in trunk.graph.output[1:]}
        self.halo = halo_of(heads, backend.scale)
        self.memory = sum(
            kind.shape.dim[1].dim_value * helper.tensor_dtype_to_np_dtype(kind.elem_type).itemsize
            for kind in types.values()
        )
        self._backend = backend
        self._features = tuple(types)
        graphs = {"trunk": trunk, "heads": heads}
        self._sessions = Parts(lambda part: open_session(graphs[part].SerializeToString()))

    def trunk(
        self, lr: NDArray[np.float32], inside: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], Features]:
        """See `SplitNetwork.trunk`."""
        session = self._sessions["trunk"]
        sums, *features = self._backend.run_session(session, lr, {INSIDE: inside})
        return sums, dict(zip(self._features, features, strict=True))

    def heads(
        self, lr: NDArray[np.float32], features: Features, pooled: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """See `SplitNetwork.heads`."""
        others = {POOLED: pooled, **features}
        (sr,) = self._backend.run_session(self._sessions["heads"], lr, others)
        return sr
