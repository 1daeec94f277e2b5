"""An engine in TensorRT's hands: tensors, profiles, one execution context a profile."""

from typing import Any

import numpy as np

from hfdn_deploy.engines import cuda
from hfdn_deploy.engines.bindings import IExecutionContext
from hfdn_deploy.engines.builder import message_log
from hfdn_deploy.engines.cache import named_bundle
from hfdn_deploy.engines.engine import Engine
from hfdn_deploy.engines.flavour import FLAVOURS
from hfdn_deploy.errors import BackendError, EngineError, InputError


class LoadedEngine:
    """A deserialised engine with the scratch memory that its contexts share.

    Only one inference may be in execution at a time; the caller sees to that.

    Raises:
        EngineError: the library cannot load it, or it does not have one input and one output.
        BundleError: its weights were stripped, and the bundle that has them is not there.
    """

    def __init__(self, engine: Engine) -> None:
        manifest = engine.manifest
        self._flavour = FLAVOURS[manifest.spec.flavour]
        trt = self._flavour.trt
        self._log, self._messages = message_log(trt)
        # The library wants its runtime kept for as long as its engines.
        self._runtime = trt.Runtime(self._log)
        loaded = self._runtime.deserialize_cuda_engine(engine.data)
        if loaded is None:
            raise EngineError(
                f"{self._flavour.title} cannot load {engine.path}: {self._reason()}; "
                f"{manifest.rebuild}."
            )
        self._engine = loaded
        if manifest.spec.strip_weights:
            bundle = named_bundle(manifest.bundle)
            if bundle.entry(manifest.graph).sha256 != manifest.onnx_sha256:
                raise EngineError(
                    f"{engine.path} was built from another {bundle.path} than the one there now; "
                    f"{manifest.rebuild}."
                )
            self._refit(bundle.read_model(manifest.graph))
        self.input, self.output = self._tensors(engine)
        self.input_dtype = np.dtype(trt.nptype(loaded.get_tensor_dtype(self.input)))
        self.output_dtype = np.dtype(trt.nptype(loaded.get_tensor_dtype(self.output)))
        self.profiles = [
            loaded.get_tensor_profile_shape(self.input, index)
            for index in range(loaded.num_optimization_profiles)
        ]
        self._contexts: dict[int, IExecutionContext] = {}
        self._scratch = cuda.Buffer()

    def _reason(self) -> str:
        return "; ".join(self._messages.errors) or "it gives no reason"

    def _tensors(self, engine: Engine) -> tuple[str, str]:
        """Names of the input and the output."""
        modes = self._flavour.trt.TensorIOMode
        names: dict[Any, list[str]] = {modes.INPUT: [], modes.OUTPUT: []}
        for index in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(index)
            names[self._engine.get_tensor_mode(name)].append(name)
        if [len(found) for found in names.values()] != [1, 1]:
            raise EngineError(f"{engine.path} has not one input and one output: {names}.")
        return names[modes.INPUT][0], names[modes.OUTPUT][0]

    def _refit(self, model: bytes) -> None:
        """Put in the weights of an ONNX file."""
        trt = self._flavour.trt
        refitter = trt.Refitter(self._engine, self._log)
        parsed = trt.OnnxParserRefitter(refitter, self._log).refit_from_bytes(model)
        if not (parsed and refitter.refit_cuda_engine()):
            raise EngineError(f"the engine does not take its weights: {self._reason()}.")

    def profile_for(self, shape: tuple[int, ...]) -> int:
        """The narrowest profile that takes an input of this shape.

        Raises:
            InputError: none does.
        """
        fitting = [
            (np.subtract(high, low).sum(), index)
            for index, (low, _, high) in enumerate(self.profiles)
            if len(shape) == len(low)
            and all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True))
        ]
        if not fitting:
            ranges = "; ".join(
                f"{_said(tuple(low))} to {_said(tuple(high))}" for low, _, high in self.profiles
            )
            raise InputError(
                f"no profile of the engine takes {_said(shape)} pixels (it has {ranges}); "
                "use tiles, or build it with --shapes."
            )
        return min(fitting)[1]

    def scratch_bytes(self, shape: tuple[int, ...]) -> int:
        """Device memory that an inference of this shape needs beside its input and output."""
        context = self._context(self.profile_for(shape))
        context.set_input_shape(self.input, shape)
        return context.update_device_memory_size_for_shapes()

    def prepare(self, shape: tuple[int, ...], stream: int) -> bool:
        """Have scratch memory for a shape; whether it now lies elsewhere than before.

        Raises:
            InputError: no profile takes the shape.
            CudaError: there is not enough device memory.
        """
        before = self._scratch.pointer
        need = self.scratch_bytes(shape)
        if need > self._scratch.size:
            # What is about to be freed may still be in use.
            cuda.call("cudaDeviceSynchronize")
        pointer = self._scratch.reserve(max(need, 1))
        self._context(self.profile_for(shape)).set_device_memory(pointer, self._scratch.size)
        return pointer != before

    def enqueue(self, shape: tuple[int, ...], source: int, target: int, stream: int) -> None:
        """Enqueue one inference of a prepared shape between two addresses on the device.

        Raises:
            BackendError: the library refuses.
        """
        context = self._context(self.profile_for(shape))
        done = (
            context.set_input_shape(self.input, shape)
            and context.set_tensor_address(self.input, source)
            and context.set_tensor_address(self.output, target)
            and context.execute_async_v3(stream)
        )
        if not done:
            raise BackendError(
                f"{self._flavour.title} failed on {_said(shape)} pixels: {self._reason()}."
            )

    def _context(self, profile: int) -> IExecutionContext:
        if profile not in self._contexts:
            strategy = self._flavour.trt.ExecutionContextAllocationStrategy.USER_MANAGED
            context = self._engine.create_execution_context(strategy)
            if context is None:
                raise BackendError(f"{self._flavour.title} makes no context: {self._reason()}.")
            context.set_optimization_profile_async(profile, 0)
            cuda.call("cudaDeviceSynchronize")
            self._contexts[profile] = context
        return self._contexts[profile]

    def inspect(self) -> str:
        """What the library's inspector says of every layer, as JSON."""
        inspector = self._engine.create_engine_inspector()
        return inspector.get_engine_information(self._flavour.trt.LayerInformationFormat.JSON)

    def device_memory(self) -> list[int]:
        """Bytes of scratch memory that each profile needs at most."""
        return [
            self._engine.get_device_memory_size_for_profile_v2(index)
            for index in range(self._engine.num_optimization_profiles)
        ]

    def close(self) -> None:
        """Free contexts, engine and scratch memory."""
        self._contexts.clear()
        self._scratch.close()
        del self._engine


def _said(shape: tuple[int, ...]) -> str:
    """N, 1, H, W as the command line has it."""
    return f"{shape[0]}x{shape[-1]}x{shape[-2]}"
