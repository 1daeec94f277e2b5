"""TensorRT engines from files, and engines of bundles, which are built if they are missing."""

from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfdn_deploy import cuda
from hfdn_deploy.backends.base import Backend, Parts, Tiling, longest_side
from hfdn_deploy.backends.spec import BACKENDS, Obstacle
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


class TensorRTBackend(Backend):
    """An engine on the current CUDA device; tiles need a bundle, for the parts of its graph.

    Raises:
        EngineError: the engine was built for another GPU, or TensorRT cannot load it.
        BackendError: there is no CUDA device, or a CUDA call failed.
    """

    name = "tensorrt"
    concurrency = SLOTS

    def __init__(self, engine: Engine) -> None:
        self.scale = engine.manifest.scale
        self.precision = engine.manifest.precision
        self._profiles = engine.manifest.spec.profiles
        self._whole = EngineRunner(engine)

    @classmethod
    def why_unavailable(cls) -> Obstacle | None:
        """See `Backend.why_unavailable`."""
        try:
            flavour = choose_flavour("auto")
        except BackendError as error:
            return Obstacle(error.reason, error.advice or BACKENDS[cls.name].install)
        try:
            cuda.Device.current()
        except BackendError as error:
            advice = error.advice or "run it on a machine with an NVIDIA GPU"
            return Obstacle(error.reason, advice)
        try:
            resolve_targets(flavour.name, ())
        except BackendError as error:
            return Obstacle(error.reason, error.advice)
        return None

    @classmethod
    def open(cls, model: Bundle | Engine, precision: str) -> "TensorRTBackend":
        """See `Backend.open`; a bundle's engine is taken from the cache, or built into it."""
        if isinstance(model, Engine):
            return TensorRTBackend(model)
        return BundleBackend(model, precision)

    def run(self, lr: NDArray[np.float32], out: Any = None) -> NDArray[np.float32]:
        """See `Backend.run`. An array on a device gives an array on that device.

        Args:
            lr: luma (N, 1, H, W), on the host or with `__cuda_array_interface__`.
            out: array on the device (N, 1, sH, sW) to write to and to return.

        Raises:
            InputError: no profile of the engine takes this shape, or a device array has the wrong
                shape or dtype or is not contiguous.
            BackendError: a CUDA call failed, or the device has too little memory.
        """
        result: NDArray[np.float32] = self._whole.run([lr], out)
        return result

    @property
    def context(self) -> Any:
        """The CUDA context of the engine."""
        return self._whole.context

    def bytes_per_pixel(self) -> int:
        """Return the approximate device memory per low-resolution pixel."""
        return self._whole.bytes_per_pixel()

    def max_batch(self, height: int, width: int) -> int:
        """See `Backend.max_batch`; 1 if no profile takes the size, which `run` then refuses."""
        batches = ((profile, profile.maximum[0]) for profile in self._profiles)
        return max((n for profile, n in batches if profile.holds((n, height, width))), default=1)

    def seconds(self) -> float:
        """See `Backend.seconds`."""
        return self._whole.seconds()

    def close(self) -> None:
        """See `Backend.close`."""
        self._whole.close()


class BundleBackend(TensorRTBackend):
    """The engines of a bundle in one precision, from the user's cache or built into it.

    The engine for whole luma is opened first, the others on first use.

    Raises:
        BundleError, GateError: the graph is missing, changed or did not pass its gates.
        EngineError, BackendError: as for `TensorRTBackend`, or an engine cannot be built.
    """

    takes_images = True

    def __init__(self, bundle: Bundle, precision: str) -> None:
        flavour = choose_flavour("auto").name
        profile = presets(bundle.manifest.scale)["photo"]
        self._bundle = bundle
        self._spec = BuildSpec(flavour, (profile,), resolve_targets(flavour, ()))
        super().__init__(self.engine(precision, "whole"))
        self._parts = Parts(self._open)
        try:
            self.tiling: EngineTiling | None = EngineTiling(
                self, self._parts, bundle, min(profile.maximum[1:])
            )
        except BaseException:
            self._whole.close()
            raise

    def run_images(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """See `Backend.run_images`; an array on a device gives an array on that device.

        The first call may build an engine. Errors are those of `run` and of a build.
        """
        upscaled: NDArray[np.uint8] = self._parts["image"].run([images])
        return upscaled

    def _open(self, part: str) -> EngineRunner:
        with ExitStack() as made:
            with cuda.context(self.context):
                engine = self.engine(self.precision, part)
                runner = EngineRunner(engine)
                made.callback(runner.close)
            made.pop_all()
        return runner

    def engine(self, precision: str, part: str) -> Engine:
        """Return the engine of the whole graph, or of a part in `graph.PARTS`."""
        path = cached_engine(self._bundle, precision, self._spec, part)
        return open_engine(path, allow_ungated=self._bundle.allow_ungated, part=part)

    def close(self) -> None:
        """See `Backend.close`."""
        with ExitStack() as each:
            each.callback(super().close)
            for runner in self._parts.clear():
                each.callback(runner.close)


class EngineTiling(Tiling):
    """The engines that tiles need, opened with the first tile.

    They share the profile of the whole image's engine. A tile with its halo may be as large as a
    whole image, if it fits into half of the device memory that was free at the start.
    """

    def __init__(
        self, backend: BundleBackend, parts: Parts[EngineRunner], bundle: Bundle, largest: int
    ) -> None:
        entry = bundle.entry(graph_for(backend.precision, "cuda"))
        self.scale = backend.scale
        self.halo = entry.halo
        self.pools = entry.pooled is not None
        self._backend = backend
        self._parts = parts
        with cuda.context(backend.context):
            free, _ = cuda.call("cudaMemGetInfo")
        self.largest = min(largest, longest_side(free, backend.bytes_per_pixel(), self.halo))

    def pooled_sums(
        self, lr: NDArray[np.float32], inside: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """See `Tiling.pooled_sums`; errors are those of `TensorRTBackend.run` and of a build."""
        return self._parts["statistics"].run([lr, inside])

    def run_tile(
        self, lr: NDArray[np.float32], pooled: NDArray[np.float32] | None
    ) -> NDArray[np.float32]:
        """See `Tiling.run_tile`; errors are those of `TensorRTBackend.run` and of a build."""
        if pooled is None:
            return self._backend.run(lr)
        return self._parts["tile"].run([lr, pooled])
