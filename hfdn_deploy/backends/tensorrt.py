"""TensorRT: engines from files, and those of bundles, which are built where they are missing."""

from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfdn_deploy import cuda
from hfdn_deploy.bundle import Bundle, graph_for
from hfdn_deploy.engines import (
    SLOTS,
    BuildSpec,
    Engine,
    EngineRunner,
    cached_engine,
    choose_flavour,
    open_engine,
    presets,
    resolve_targets,
)
from hfdn_deploy.errors import BackendError


def why_unavailable(name: str) -> str | None:
    """Why no engine can run here; None if one can."""
    try:
        choose_flavour("auto")
        cuda.Device.current()
    except BackendError as error:
        return str(error).rstrip(".")
    return None


def open_model(model: Bundle | Engine, precision: str, name: str) -> "TensorRTBackend":
    """Open an engine; for a bundle, the one in the cache for this GPU, built if need be."""
    if isinstance(model, Engine):
        return TensorRTBackend(model)
    return BundleBackend(model, precision)


class TensorRTBackend:
    """An engine on the current CUDA device. Alone it runs no tiles, which need parts of its graph.

    Raises:
        EngineError: the engine was built for another GPU, or the library cannot load it.
        BackendError: there is no CUDA device, or a CUDA call failed.
    """

    name = "tensorrt"
    concurrency = SLOTS

    def __init__(self, engine: Engine) -> None:
        self.scale = engine.manifest.scale
        self.precision = engine.manifest.precision
        self._whole = EngineRunner(engine)

    def run(self, lr: NDArray[np.float32], out: Any = None) -> NDArray[np.float32]:
        """See `Backend.run`. An array on a device gives an array on that device.

        Args:
            lr: luma (N, 1, H, W), on the host or with `__cuda_array_interface__`.
            out: array on the device (N, 1, sH, sW) to write to and to return.

        Raises:
            InputError: no profile of the engine takes this shape, or a device array has another
                shape or dtype than it needs, or gaps.
            BackendError: a CUDA call failed, or the device's memory does not suffice.
        """
        return self._whole.run([lr], out)

    def seconds(self) -> float:
        """See `ClockedBackend.seconds`."""
        return self._whole.seconds()

    def close(self) -> None:
        """See `Backend.close`."""
        self._whole.close()


class BundleBackend(TensorRTBackend):
    """The engines of one precision of a bundle: from the user's cache, or built into it.

    The two that tiles need are opened with the first tile. They have the profile of the whole's, so
    that a tile with its halo may be as large as a picture that is run whole.

    Raises:
        BundleError, GateError: the graph is missing, changed or did not pass its gates.
        EngineError, BackendError: as for `TensorRTBackend`, or an engine cannot be built.
    """

    memory: int | None = None
    overhead = 0
    split = None

    def __init__(self, bundle: Bundle, precision: str) -> None:
        flavour = choose_flavour("auto").name
        profile = presets(bundle.manifest.scale)["photo"]
        self._bundle = bundle
        self._spec = BuildSpec(flavour, (profile,), resolve_targets(flavour, ()))
        entry = bundle.entry(graph_for(precision, "cuda"))
        self.halo = entry.halo
        self.pools = entry.pooled is not None
        self.largest: int | None = min(profile.maximum[1:])
        self._context = cuda.current_context()
        self._opening = Lock()
        self._parts: dict[str, EngineRunner] = {}
        super().__init__(self._engine(precision, "whole"))

    def _engine(self, precision: str, part: str) -> Engine:
        path = cached_engine(self._bundle, precision, self._spec, part)
        return open_engine(path, allow_ungated=self._bundle.allow_ungated, part=part)

    def _part(self, part: str) -> EngineRunner:
        """The runner of a part of the graph, made when it is first asked for."""
        with self._opening:
            if part not in self._parts:
                with cuda.context(self._context):
                    self._parts[part] = EngineRunner(self._engine(self.precision, part))
            return self._parts[part]

    def pooled_sums(
        self, lr: NDArray[np.float32], inside: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """See `TilingBackend.pooled_sums`; errors as for `run`, or of a build."""
        return self._part("statistics").run([lr, inside])

    def run_tile(
        self, lr: NDArray[np.float32], pooled: NDArray[np.float32] | None
    ) -> NDArray[np.float32]:
        """See `TilingBackend.run_tile`; errors as for `run`, or of a build."""
        if pooled is None:
            return self.run(lr)
        return self._part("tile").run([lr, pooled])

    def close(self) -> None:
        """See `Backend.close`."""
        super().close()
        for runner in self._parts.values():
            runner.close()
