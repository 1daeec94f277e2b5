"""The half of TensorRT-RTX that runs engines, simulated; ONNX Runtime computes the outputs."""

import hashlib
import json
import time
import weakref
from collections import Counter
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from hfdn_deploy.backends import session_options
from hfdn_deploy.bundle import TensorSpec
from hfdn_deploy.engines import FLAVOURS, cache_folder
from tests.helpers.simulated_cuda.gpu import CudaFailure, SimulatedGpu
from tests.helpers.simulated_cuda.memory import Span
from tests.helpers.simulated_cuda.work import Work

SCRATCH = 400
"""Bytes of scratch memory per pixel of an image."""

# ONNX files that the real parser has read, by the hash that an engine's sidecar names.
_PARSED: dict[str, bytes] = {}


def replace_runtime(patch: pytest.MonkeyPatch, gpu: SimulatedGpu) -> None:
    """Replace TensorRT-RTX's `Runtime`, and record the graphs that its parser reads."""
    trt: Any = FLAVOURS["rtx"].trt
    parse = trt.OnnxParser.parse

    def remember(parser: Any, model: bytes) -> bool:
        _PARSED[hashlib.sha256(model).hexdigest()] = model
        return bool(parse(parser, model))

    patch.setattr(trt.OnnxParser, "parse", remember)
    patch.setattr(trt, "Runtime", lambda log: Runtime(gpu, trt, log))


class _Object:
    """A TensorRT object; every call is counted and may fail."""

    def __init__(self, gpu: SimulatedGpu, trt: Any, log: Any) -> None:
        self._gpu, self._trt, self._log = gpu, trt, log
        kind = type(self).__name__
        gpu.objects[kind] += 1
        weakref.finalize(self, _gone, gpu.objects, kind)

    def _fails(self, method: str) -> bool:
        with self._gpu.lock:
            status = self._gpu.entered(f"{type(self).__name__}.{method}")
        if status is not None:
            self._say(f"{method}: {status.name}")
        return status is not None

    def _say(self, message: str) -> None:
        self._log.log(self._trt.ILogger.ERROR, message)


def _gone(objects: Counter[str], kind: str) -> None:
    objects[kind] -= 1


class Runtime(_Object):
    """See `bindings.Runtime`."""

    engine_host_code_allowed = False

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> "Engine | None":
        if self._fails("deserialize_cuda_engine"):
            return None
        sha256 = hashlib.sha256(serialized_engine).hexdigest()
        for path in cache_folder().glob(f"*/engine/{sha256}.engine.json"):
            sidecar = json.loads(path.read_text())
            return Engine(self._gpu, self._trt, self._log, sidecar)
        self._say("magicTag does not match")
        return None


@cache
def _session(sha256: str) -> Any:
    options = session_options()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(_PARSED[sha256], options, providers=["CPUExecutionProvider"])


@cache
def _output_shape(sha256: str, *shapes: tuple[int, ...]) -> tuple[int, ...]:
    """Return a graph's output shape by running it, since the graph may not declare it."""
    session = _session(sha256)
    types = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}
    feeds = {
        each.name: np.zeros(shape, types[each.type])
        for each, shape in zip(session.get_inputs(), shapes, strict=True)
    }
    return tuple(session.run(None, feeds)[0].shape)


class Engine(_Object):
    """See `bindings.ICudaEngine`."""

    def __init__(self, gpu: SimulatedGpu, trt: Any, log: Any, sidecar: Any) -> None:
        super().__init__(gpu, trt, log)
        self.sha256 = sidecar["onnx_sha256"]
        """Hash of the graph."""
        graph = onnx.load_model_from_string(_PARSED[self.sha256]).graph
        self.inputs = {value.name: TensorSpec.from_onnx(value) for value in graph.input}
        self.output = TensorSpec.from_onnx(graph.output[0])
        self.session = _session(self.sha256)
        self._profiles = sidecar["spec"]["profiles"]
        self.num_optimization_profiles = len(self._profiles)
        self.num_io_tensors = len(graph.input) + 1

    @property
    def tensors(self) -> dict[str, TensorSpec]:
        """Inputs and output by name."""
        return self.inputs | {self.output.name: self.output}

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_mode(self, name: str) -> Any:
        modes = self._trt.TensorIOMode
        return modes.INPUT if name in self.inputs else modes.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        types = self._trt.DataType
        known = {"float32": types.FLOAT, "float16": types.HALF, "uint8": types.UINT8}
        return known[self.tensors[name].dtype]

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Any]:
        profile = self._profiles[profile_index]
        shapes = (profile["minimum"], profile["optimum"], profile["maximum"])
        return [self._trt.Dims(self.inputs[name].sized(*shape)) for shape in shapes]

    def get_device_memory_size_for_profile_v2(self, profile_index: int) -> int:
        return int(SCRATCH * np.prod(self._profiles[profile_index]["maximum"]))

    def create_runtime_config(self) -> "Config":
        return Config(self._gpu, self._trt, self._log)

    def create_execution_context(self, strategy_or_config: "Config") -> "Context | None":
        if self._gpu.captures():
            self._gpu.violate("a context is created while a stream captures")
        if self._fails("create_execution_context"):
            return None
        wanted = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        assert strategy_or_config.strategy == wanted
        return Context(self._gpu, self._trt, self._log, self)


class Config(_Object):
    """See `bindings.IRuntimeConfig`."""

    strategy: Any = None

    def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
        self.strategy = strategy

    def create_runtime_cache(self) -> "KernelCache":
        return KernelCache(self._gpu, self._trt, self._log)

    def set_runtime_cache(self, cache: "KernelCache") -> bool:
        assert isinstance(cache, KernelCache)
        return not self._fails("set_runtime_cache")


class KernelCache(_Object):
    """See `bindings.IRuntimeCache`."""

    def serialize(self) -> bytes:
        return b"kernels"

    def deserialize(self, blob: bytes) -> bool:
        return blob == b"kernels"


class Context(_Object):
    """See `bindings.IExecutionContext`."""

    def __init__(self, gpu: SimulatedGpu, trt: Any, log: Any, engine: Engine) -> None:
        super().__init__(gpu, trt, log)
        self._engine = engine
        self._context = gpu.context
        self._profile = 0
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._places: dict[str, int] = {}
        self._scratch = Span(0, 0)
        self._ran = False

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        if self._fails("set_optimization_profile_async"):
            return False
        self._profile = profile_index
        with self._gpu.lock:
            stream = self._gpu.stream(stream_handle)
            self._gpu.enqueue(stream, Work("set_optimization_profile_async"))
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if self._fails("set_input_shape"):
            return False
        low, _, high = self._engine.get_tensor_profile_shape(name, self._profile)
        fits = all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True))
        if fits:
            self._shapes[name] = tuple(shape)
        return fits

    def get_tensor_shape(self, name: str) -> Any:
        return self._trt.Dims(self._shapes.get(name) or self._output_shape())

    def _output_shape(self) -> tuple[int, ...]:
        if len(self._shapes) < len(self._engine.inputs):
            return (-1,) * len(self._engine.output.shape)
        shapes = (self._shapes[name] for name in self._engine.inputs)
        return _output_shape(self._engine.sha256, *shapes)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if self._fails("set_tensor_address"):
            return False
        self._places[name] = memory
        return True

    def update_device_memory_size_for_shapes(self) -> int:
        shape = self._shapes[next(iter(self._engine.inputs))]
        return int(SCRATCH * np.prod(shape))

    def set_device_memory(self, memory: int, size: int) -> None:
        self._scratch = Span(memory, size)

    def is_stream_capturable(self, stream: int) -> bool:
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        if self._fails("execute_async_v3"):
            return False
        if self._gpu.context != self._context:
            self._gpu.violate("a TensorRT context runs in another CUDA context")
        if self._scratch.size < self.update_device_memory_size_for_shapes():
            self._gpu.violate("the scratch memory is too small")
        places = {name: self._span(name) for name in self._engine.tensors}
        feeds = {name: (places[name], self._shapes[name]) for name in self._engine.inputs}
        into = places[self._engine.output.name]
        if self._gpu.captures():
            # Let other threads run, as while a network's kernels are enqueued one by one.
            time.sleep(0.001)
        with self._gpu.lock:
            stream = self._gpu.stream(stream_handle)
            # The first run of a shape may allocate.
            if stream.capture and not self._ran:
                self._gpu.violate("a shape is captured before it has run")
            self._ran = self._ran or stream.capture is None
            kind = "graph" if stream.capture else "plain"
            work = Work(
                f"inference of {next(iter(self._shapes.values()))}",
                self._inference(feeds, into, kind),
                reads=tuple(span for span, _ in feeds.values()),
                writes=(into, self._scratch),
            )
            try:
                self._gpu.enqueue(stream, work)
            except CudaFailure as failure:
                self._say(f"enqueue: {failure.status.name}")
                return False
        return True

    def _span(self, name: str) -> Span:
        shape = self._shapes.get(name) or self._output_shape()
        dtype = np.dtype(self._engine.tensors[name].dtype)
        return Span(self._places[name], int(np.prod(shape)) * dtype.itemsize)

    def _inference(
        self, feeds: dict[str, tuple[Span, tuple[int, ...]]], into: Span, kind: str
    ) -> Any:
        """Return the computation, a violation if this context no longer exists when it runs."""
        gpu, engine, scratch, alive = self._gpu, self._engine, self._scratch, weakref.ref(self)

        def compute() -> None:
            if alive() is None:
                gpu.violate("an inference runs after its context was destroyed")
            memory = gpu.memory
            memory.view(scratch)
            given = {
                name: memory.array(span, shape, engine.inputs[name].dtype)
                for name, (span, shape) in feeds.items()
            }
            (output,) = engine.session.run(None, given)
            memory.view(into)[:] = np.ascontiguousarray(output).reshape(-1).view(np.uint8)
            for span in (*(span for span, _ in feeds.values()), into, scratch):
                block = memory.find(span)
                if block and block.pinned:
                    gpu.violate("an inference reads or writes host memory")
            gpu.runs.append((kind, next(iter(feeds.values()))[1]))

        return compute
