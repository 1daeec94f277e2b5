"""An engine loaded by TensorRT: tensors, profiles, execution contexts."""

import hashlib
import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from hfdn_deploy import cuda
from hfdn_deploy.atomic import replaced
from hfdn_deploy.bundle import named_bundle
from hfdn_deploy.engines.bindings import ICudaEngine, IExecutionContext, IRuntimeConfig, TensorRT
from hfdn_deploy.engines.builder import message_log
from hfdn_deploy.engines.engine import Engine
from hfdn_deploy.engines.flavour import FLAVOURS
from hfdn_deploy.engines.folders import cache_folder, is_own, make_own
from hfdn_deploy.errors import BackendError, EngineError, HFDNError, InputError
from hfdn_deploy.graph import part_of

logger = logging.getLogger(__name__)


class LoadedEngine:
    """A deserialized engine.

    Raises:
        EngineError: TensorRT cannot load the engine, its tensors are not those of its sidecar, or
            the bundle with its stripped weights has changed.
        BundleError: the bundle with the engine's stripped weights is missing.
    """

    def __init__(self, engine: Engine) -> None:
        manifest = engine.manifest
        self._flavour = FLAVOURS[manifest.spec.flavour]
        self._path = engine.path
        self._scale = manifest.scale
        trt = self._flavour.trt
        self._log, self._messages = message_log(trt)
        # TensorRT requires that the runtime outlives its engines.
        self._runtime = trt.Runtime(self._log)
        if manifest.spec.version_compatible:
            # Such an engine contains host code; `open_engine` checked that it is trusted.
            self._runtime.engine_host_code_allowed = True
        loaded = self._runtime.deserialize_cuda_engine(engine.data)
        if loaded is None:
            cuda.check_context()
            raise EngineError(
                f"{self._flavour.title} cannot load {engine.path}: {self._reason()}; "
                f"{manifest.rebuild}."
            )
        self._engine = loaded
        if manifest.spec.strip_weights:
            bundle = named_bundle(manifest.bundle, engine.allow_ungated)
            model = part_of(bundle.read_model(manifest.graph), manifest.part, manifest.scale)
            if hashlib.sha256(model).hexdigest() != manifest.onnx_sha256:
                raise EngineError(
                    f"{engine.path} does not fit {bundle.path}, which has changed since the build; "
                    f"{manifest.rebuild}."
                )
            self._refit(model)
        self.inputs, self.output = manifest.inputs, manifest.output
        self._check_tensors()
        self._profiles = [
            loaded.get_tensor_profile_shape(self.inputs[0].name, index)
            for index in range(loaded.num_optimization_profiles)
        ]
        self._kernels = KernelCache(trt, loaded, manifest.sha256) if self._compiles else None

    @property
    def _compiles(self) -> bool:
        return self._flavour.compiles_at_run

    def _reason(self) -> str:
        return "; ".join(self._messages.errors) or "it gives no reason"

    def _check_tensors(self) -> None:
        """Raise EngineError unless the engine's inputs and output are those of its sidecar."""
        trt, engine = self._flavour.trt, self._engine
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        found = {
            (
                name,
                engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT,
                np.dtype(trt.nptype(engine.get_tensor_dtype(name))).name,
            )
            for name in names
        }
        promised = {(tensor.name, True, tensor.dtype) for tensor in self.inputs}
        promised.add((self.output.name, False, self.output.dtype))
        if found != promised:
            raise EngineError(
                f"{self._path} has the tensors {', '.join(names)}, which are not those of its "
                "sidecar; build it again."
            )

    def _refit(self, model: bytes) -> None:
        """Set the engine's weights from an ONNX file."""
        trt = self._flavour.trt
        refitter = trt.Refitter(self._engine, self._log)
        parsed = trt.OnnxParserRefitter(refitter, self._log).refit_from_bytes(model)
        if not (parsed and refitter.refit_cuda_engine()):
            raise EngineError(f"the engine does not accept its weights: {self._reason()}.")

    def _sides(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """Return N, H, W of an image of this shape.

        Raises:
            InputError: the number of axes is not that of the engine's images.
        """
        wanted = self.inputs[0].shape
        if len(shape) != len(wanted):
            raise InputError(f"the engine takes images {wanted}, not {shape}; reshape it.")
        height, width = shape[2:] if isinstance(wanted[1], int) else shape[1:3]
        return shape[0], height, width

    def input_shapes(self, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Return the shapes of all inputs for an image of this shape."""
        sides = self._sides(shape)
        return [tensor.sized(*sides) for tensor in self.inputs]

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the output for an image of this shape."""
        number, height, width = self._sides(shape)
        return self.output.sized(number, self._scale * height, self._scale * width)

    def context(self, shape: tuple[int, ...], stream: Any) -> IExecutionContext:
        """Return an execution context for images of this shape.

        Its scratch memory must be set before `enqueue`.

        Args:
            shape: of the image.
            stream: stream of the current CUDA context for the preparation; no stream may capture.

        Raises:
            InputError: no profile takes the shape.
            EngineError: the output shape is not that of the sidecar.
            BackendError: TensorRT refuses.
        """
        profile = self._profile_for(shape)
        strategy = self._flavour.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        context = self._engine.create_execution_context(
            self._kernels.config(strategy) if self._kernels else strategy
        )
        if context is None:
            cuda.check_context()
            raise BackendError(f"{self._flavour.title} cannot make a context: {self._reason()}.")
        done = True
        if len(self._profiles) > 1:
            done = context.set_optimization_profile_async(profile, int(stream))
            cuda.call("cudaStreamSynchronize", stream)
        for tensor, size in zip(self.inputs, self.input_shapes(shape), strict=True):
            done = done and context.set_input_shape(tensor.name, size)
        if not done:
            cuda.check_context()
            raise BackendError(f"{self._flavour.title} refuses the input: {self._reason()}.")
        expected, given = self.output_shape(shape), context.get_tensor_shape(self.output.name)
        if tuple(given) != expected:
            raise EngineError(
                f"{self._path} gives {tuple(given)}, but its sidecar says {expected}; build it "
                "again."
            )
        return context

    def _profile_for(self, shape: tuple[int, ...]) -> int:
        """Return the index of the narrowest profile that takes an image of this shape."""
        fitting = [
            (int(np.subtract(tuple(high), tuple(low)).sum()), index)
            for index, (low, _, high) in enumerate(self._profiles)
            if all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True))
        ]
        if not fitting:
            ranges = "; ".join(
                f"{self._said(tuple(low))} to {self._said(tuple(high))}"
                for low, _, high in self._profiles
            )
            raise InputError(
                f"no profile of the engine takes {self._said(shape)} pixels (it has {ranges}); "
                "upscale in tiles, which needs the bundle, or build an engine with --shapes."
            )
        return min(fitting)[1]

    def _said(self, shape: tuple[int, ...]) -> str:
        """Return a shape as written on the command line."""
        number, height, width = self._sides(shape)
        return f"{number}x{width}x{height}"

    def scratch_bytes(self, context: IExecutionContext) -> int:
        """Return the device memory of an inference in a context, without inputs and output."""
        return max(context.update_device_memory_size_for_shapes(), 1)

    def bytes_per_pixel(self, number: int = 1) -> int:
        """Return the approximate device memory per pixel: scratch memory, inputs and output.

        Args:
            number: images in flight, which share the scratch memory.
        """
        most = max(range(len(self._profiles)), key=lambda each: self.device_memory()[each])
        shape = tuple(self._profiles[most][2])
        tensors = zip(
            (*self.inputs, self.output),
            (*self.input_shapes(shape), self.output_shape(shape)),
            strict=True,
        )
        arrays = sum(np.dtype(tensor.dtype).itemsize * math.prod(s) for tensor, s in tensors)
        total = self.device_memory()[most] + number * arrays
        return math.ceil(total / math.prod(self._sides(shape)))

    def enqueue(
        self, context: IExecutionContext, sources: Sequence[int], target: int, stream: int
    ) -> None:
        """Enqueue one inference in a context whose scratch memory is set.

        Args:
            context: made for the images' shape.
            sources: addresses of the inputs on the device.
            target: address of the output on the device.
            stream: stream to enqueue on.

        Raises:
            BackendError: TensorRT refuses.
        """
        tensors = zip((*self.inputs, self.output), (*sources, target), strict=True)
        done = all(context.set_tensor_address(tensor.name, place) for tensor, place in tensors)
        done = done and context.execute_async_v3(stream)
        if not done:
            raise BackendError(f"{self._flavour.title} failed: {self._reason()}.")

    def capturable(self, context: IExecutionContext, stream: int) -> bool:
        """Return whether an inference can be captured as a CUDA graph."""
        return not self._compiles or context.is_stream_capturable(stream)

    def inspect(self) -> str:
        """Return TensorRT's description of every layer as JSON."""
        inspector = self._engine.create_engine_inspector()
        return inspector.get_engine_information(self._flavour.trt.LayerInformationFormat.JSON)

    def device_memory(self) -> list[int]:
        """Return the most bytes of scratch memory that each profile needs."""
        return [
            self._engine.get_device_memory_size_for_profile_v2(index)
            for index in range(self._engine.num_optimization_profiles)
        ]

    def close(self) -> None:
        """Free the engine, whose contexts must have been freed before."""
        if self._kernels:
            try:
                self._kernels.save()
            except (HFDNError, OSError) as error:
                logger.warning("compiled kernels cannot be saved for the next process: %s", error)
        self._kernels = None
        del self._engine, self._runtime


class KernelCache:
    """Kernels compiled by TensorRT-RTX on this device, kept for the next process."""

    def __init__(self, trt: TensorRT, engine: ICudaEngine, sha256: str) -> None:
        self._trt = trt
        self._engine = engine
        self._path = cache_folder() / "kernels" / f"{sha256}.cache"
        self._cache = engine.create_runtime_config().create_runtime_cache()
        # TensorRT-RTX refuses kernels of other devices or versions itself.
        self._known = self._path.read_bytes() if is_own(self._path) else b""
        if self._known:
            self._cache.deserialize(self._known)

    def config(self, strategy: Any) -> IRuntimeConfig:
        """Return the options of a context with this memory allocation strategy."""
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(strategy)
        # Lazily compiled kernels would change results from one call to the next.
        strategies = self._trt.DynamicShapesKernelSpecializationStrategy
        config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
        config.set_runtime_cache(self._cache)
        return config

    def save(self) -> None:
        """Write the kernels to the user's cache if there are new ones."""
        kernels = bytes(self._cache.serialize())
        if kernels != self._known:
            make_own(self._path.parent)
            with replaced(self._path) as temporary:
                temporary.write_bytes(kernels)
