"""ONNX Runtime: on the CPU, through CUDA, or through its plugin for TensorRT-RTX."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfdn_deploy.backends.graph_backend import GraphBackend, threads
from hfdn_deploy.backends.probes import eight_bit_products_saturate, identity
from hfdn_deploy.backends.registry import Features
from hfdn_deploy.bundle import GRAPHS, Bundle, ModelFile, graph_for
from hfdn_deploy.cuda import borrow, is_device_array
from hfdn_deploy.errors import BackendError, HFDNError, first_line

_PROVIDERS = {
    "onnxruntime": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "rtx-ep": "NvTensorRTRTXExecutionProvider",
}
# On the CPU, by precision and scale; `python -m benchmarks memory` measures it.
_MEMORY = {
    "fp32": {2: 6600, 3: 9000, 4: 12300},
    "fp16": {2: 7600, 3: 14000, 4: 26000},
    "int8": {2: 3200, 3: 6700, 4: 12700},
}
# Of int8 where the exact kernels are asked for, see `session_options`.
_EXACT_MEMORY = {2: 4500, 3: 9500, 4: 15500}
_PACKAGES = {"onnxruntime": "onnxruntime", "cuda": "onnxruntime-gpu"}


def why_unavailable(name: str) -> str | None:
    """Why the backend of this name cannot run here; None if it can."""
    try:
        if name == "rtx-ep":
            _rtx_devices()
            return None
        import onnxruntime as ort

        providers = ort.get_available_providers()
    except (ImportError, AttributeError) as error:
        if getattr(error, "name", None) == "onnxruntime":
            extra = "gpu" if name == "cuda" else "cpu"
            return f"ONNX Runtime is not installed: pip install 'hfdn-deploy[{extra}]'"
        package = _PACKAGES.get(name, "onnxruntime")
        advice = f"pip uninstall onnxruntime onnxruntime-gpu, then pip install {package}"
        return f"ONNX Runtime cannot be imported ({error}): {advice}"
    except BackendError as error:
        return str(error)
    if _PROVIDERS[name] not in providers:
        return (
            f"this ONNX Runtime has no {_PROVIDERS[name]}: install {_PACKAGES[name]} in its place"
        )
    try:
        _open_session(identity(), name)
    except BackendError as error:
        return str(error)
    return None


def _rtx_devices() -> list[Any]:
    """The devices that the plugin for TensorRT-RTX can run on.

    Raises:
        BackendError: the plugin is not installed, or finds no device that it can run on.
    """
    import onnxruntime as ort

    try:
        plugin = import_module("onnxruntime_ep_nv_tensorrt_rtx")
    except ImportError:
        raise BackendError(
            "ONNX Runtime's plugin for TensorRT-RTX is not installed: "
            "pip install 'hfdn-deploy[rtx]'"
        ) from None
    name = plugin.get_ep_name()
    try:
        _register(name, plugin.get_library_path())
    except Exception as error:  # its exceptions share no base class but this
        raise BackendError(
            f"ONNX Runtime cannot load its plugin for TensorRT-RTX ({first_line(error)}): see "
            "`hfdn doctor`, or ask for backend onnxruntime"
        ) from None
    devices = [device for device in ort.get_ep_devices() if device.ep_name == name]
    if not devices:
        raise BackendError(
            "ONNX Runtime's plugin for TensorRT-RTX finds no GPU: ask for backend onnxruntime"
        )
    return devices


@cache
def _register(name: str, library: str) -> None:
    """Register a provider's library, which can be done once in a process."""
    import onnxruntime as ort

    ort.register_execution_provider_library(name, library)


@cache
def _share_arena() -> None:
    """Make one arena for all sessions in this process.

    An arena never shrinks, so the graphs that tiles run in turn would each keep their own peak.
    """
    import onnxruntime as ort

    kind = ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    cpu = ort.OrtMemoryInfo("Cpu", kind, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(cpu, None)


def session_options() -> Any:
    """The options of every session; `python -m benchmarks sessions` measures the alternatives.

    Its defaults for threads, arena and graph optimisations are the fastest there. Where 8-bit
    products saturate, the slower kernels that do not are asked for.
    """
    import onnxruntime as ort

    _share_arena()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads()
    options.log_severity_level = 3
    options.add_session_config_entry("session.use_env_allocators", "1")
    # They would take up to twice the memory, in the second run of a size, and save no time.
    options.enable_mem_pattern = False
    if eight_bit_products_saturate():
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def _open_session(data: bytes, name: str) -> Any:
    """A session on exactly the provider of this backend.

    Raises:
        BackendError: ONNX Runtime refuses the graph or would use another provider.
    """
    import onnxruntime as ort

    options = session_options()
    provider = _PROVIDERS[name]
    try:
        if name == "rtx-ep":
            options.add_provider_for_devices(_rtx_devices(), {})
            session = ort.InferenceSession(data, options)
        else:
            # TensorFloat-32 would shorten the mantissas of fp32 graphs, which nobody asked for.
            settings = {"use_tf32": "0"} if name == "cuda" else {}
            session = ort.InferenceSession(data, options, providers=[(provider, settings)])
    except BackendError:
        raise
    except Exception as error:  # its exceptions share no base class but this
        raise BackendError(f"ONNX Runtime {ort.__version__} refuses the graph: {error}") from error
    used = session.get_providers()[0]
    # The GPU build quietly falls back to the CPU where CUDA does not work.
    if used != provider:
        raise BackendError(
            f"ONNX Runtime gave {used} instead of {provider}: CUDA or cuDNN does not work here; "
            "see `hfdn doctor`, or ask for backend onnxruntime"
        )
    return session


def open_model(model: Bundle, precision: str, name: str) -> "OnnxRuntimeBackend":
    """Open one precision of a bundle with the backend of this name.

    Raises:
        BundleError: the bundle has no such graph or its file was changed.
        GateError: the graph did not pass its gates.
        BackendError: ONNX Runtime has no such precision, refuses the graph, or would use another
            provider.
    """
    graph = graph_for(precision, "cpu" if name == "onnxruntime" else "cuda")
    data, entry = model.read_model(graph), model.entry(graph)
    return OnnxRuntimeBackend(data, entry, model.manifest.scale, name)


@contextmanager
def _failures(lr: Any) -> Iterator[None]:
    """Say of a failure on which input it was.

    Raises:
        BackendError: there was one.
    """
    try:
        yield
    except HFDNError:
        raise
    except Exception as error:  # its exceptions share no base class but this
        raise BackendError(
            f"ONNX Runtime failed on an input of {lr.shape[3]}×{lr.shape[2]}: {error}"
        ) from error


class OnnxRuntimeBackend(GraphBackend):
    """ONNX Runtime with one graph of a bundle, on exactly one provider.

    Raises:
        BackendError: ONNX Runtime refuses the graph or would use another provider.
    """

    def __init__(self, data: bytes, entry: ModelFile, scale: int, name: str) -> None:
        """Open a graph; arguments as for `GraphBackend`."""
        precision = next(p for p, graphs in GRAPHS.items() if entry.graph in graphs)
        super().__init__(name, precision, scale, data, entry)
        if name == "onnxruntime":
            exact = precision == "int8" and eight_bit_products_saturate()
            self.memory = (_EXACT_MEMORY if exact else _MEMORY[precision])[scale]

    def open_session(self, data: bytes) -> Any:
        """See `GraphBackend.open_session`."""
        return _open_session(data, self.name)

    def run(self, lr: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Backend.run`."""
        if self.name == "onnxruntime":
            return super().run(lr)
        with _failures(lr):
            result: NDArray[np.float32] = self._run_bound(lr)
            return result

    def run_session(
        self, session: Any, lr: NDArray[np.float32], others: Features | None = None
    ) -> list[NDArray[Any]]:
        """See `GraphBackend.run_session`."""
        with _failures(lr):
            feeds = {self._entry.input.name: lr, **(others or {})}
            return [np.asarray(output) for output in session.run(None, feeds)]

    def _run_bound(self, lr: Any) -> Any:
        """With input and output bound to device memory; an array there gives an array there."""
        binding = self.session.io_binding()
        on_device = is_device_array(lr)
        if on_device:
            shape = tuple(lr.shape)
            address = borrow(lr, shape, np.dtype(np.float32))
            binding.bind_input(self._entry.input.name, "cuda", 0, np.float32, shape, address)
        else:
            binding.bind_cpu_input(self._entry.input.name, lr)
        binding.bind_output(self._entry.output.name, "cuda")
        self.session.run_with_iobinding(binding)
        if on_device:
            return _DeviceOutput(binding.get_outputs()[0])
        return binding.copy_outputs_to_cpu()[0]


class _DeviceOutput:
    """An output that ONNX Runtime left on the device."""

    def __init__(self, value: Any) -> None:
        self._value = value
        self.shape = tuple(value.shape())

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Version 3 of the protocol; the run has ended, so no stream is named."""
        return {
            "shape": self.shape,
            "typestr": "<f4",
            "data": (self._value.data_ptr(), False),
            "strides": None,
            "version": 3,
            "stream": None,
        }
