"""Protocols of the used parts of TensorRT's Python module, since NVIDIA's bindings have no types.

mypy refuses code that uses other names, and tests/engines/test_bindings.py compares the names here
with the real module.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Protocol, TypeAlias


class ILogger(Protocol):
    """Base class of loggers; `log` is called from any thread."""

    INTERNAL_ERROR: ClassVar[Any]
    ERROR: ClassVar[Any]
    WARNING: ClassVar[Any]
    INFO: ClassVar[Any]
    VERBOSE: ClassVar[Any]

    def log(self, severity: Any, message: str) -> None: ...


class IProgressMonitor(Protocol):
    """Base class of progress monitors; `step_complete` returns whether to continue the build."""

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None: ...
    def step_complete(self, phase_name: str, step: int) -> bool: ...
    def phase_finish(self, phase_name: str) -> None: ...


class IHostMemory(Protocol):
    """A serialized engine."""

    def __buffer__(self, flags: int, /) -> memoryview: ...


class ITimingCache(Protocol):
    """Kernel times measured by earlier builds."""

    def serialize(self) -> IHostMemory: ...


class IOptimizationProfile(Protocol):
    """Ranges of the inputs' shapes."""

    def set_shape(
        self, input: str, min: tuple[int, ...], opt: tuple[int, ...], max: tuple[int, ...]
    ) -> None: ...


class IBuilderConfig(Protocol):
    """Options of a build."""

    builder_optimization_level: int
    hardware_compatibility_level: Any
    num_compute_capabilities: int
    profiling_verbosity: Any
    progress_monitor: IProgressMonitor

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int: ...
    def set_compute_capability(self, capability: Any, index: int) -> bool: ...
    def set_flag(self, flag: Any) -> None: ...
    def clear_flag(self, flag: Any) -> None: ...
    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None: ...
    def create_timing_cache(self, serialized: bytes) -> ITimingCache | None: ...
    def set_timing_cache(self, cache: ITimingCache | None, ignore_mismatch: bool) -> bool: ...
    def get_timing_cache(self) -> ITimingCache | None: ...


class INetworkDefinition(Protocol):
    """A parsed network."""


class Builder(Protocol):
    """Makes networks, options and engines."""

    def create_network(self, flags: int) -> INetworkDefinition: ...
    def create_builder_config(self) -> IBuilderConfig: ...
    def create_optimization_profile(self) -> IOptimizationProfile: ...
    def build_serialized_network(
        self, network: INetworkDefinition, config: IBuilderConfig
    ) -> IHostMemory | None: ...


class ParserError(Protocol):
    """The reason why a node could not be parsed."""

    def desc(self) -> str: ...
    def node_name(self) -> str: ...
    def node_operator(self) -> str: ...


class OnnxParser(Protocol):
    """Parses an ONNX file into a network."""

    @property
    def num_errors(self) -> int: ...
    def parse(self, model: bytes) -> bool: ...
    def get_error(self, index: int) -> ParserError: ...


class OnnxParserRefitter(Protocol):
    """Reads the weights of a stripped engine from an ONNX file."""

    def refit_from_bytes(self, model: bytes) -> bool: ...


class Refitter(Protocol):
    """Sets the weights of an engine."""

    def refit_cuda_engine(self) -> bool: ...


class EngineInspector(Protocol):
    """Describes an engine's layers."""

    def get_engine_information(self, format: Any) -> str: ...


class ICudaEngine(Protocol):
    """An engine on a device."""

    @property
    def num_io_tensors(self) -> int: ...
    @property
    def num_optimization_profiles(self) -> int: ...
    def get_tensor_name(self, index: int) -> str: ...
    def get_tensor_mode(self, name: str) -> Any: ...
    def get_tensor_dtype(self, name: str) -> Any: ...
    def get_tensor_profile_shape(
        self, name: str, profile_index: int
    ) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]: ...
    def get_device_memory_size_for_profile_v2(self, profile_index: int) -> int: ...
    def create_execution_context(
        self, strategy_or_config: "Any | IRuntimeConfig"
    ) -> "IExecutionContext | None": ...
    def create_runtime_config(self) -> "IRuntimeConfig": ...
    def create_engine_inspector(self) -> EngineInspector: ...


class IRuntimeCache(Protocol):
    """Kernels compiled on this device (TensorRT-RTX)."""

    def serialize(self) -> IHostMemory: ...
    def deserialize(self, blob: bytes) -> bool: ...


class IRuntimeConfig(Protocol):
    """Options of execution contexts."""

    dynamic_shapes_kernel_specialization_strategy: Any

    def set_execution_context_allocation_strategy(self, strategy: Any) -> None: ...
    def create_runtime_cache(self) -> IRuntimeCache: ...
    def set_runtime_cache(self, cache: IRuntimeCache) -> bool: ...


class IExecutionContext(Protocol):
    """State of one sequence of inferences."""

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool: ...
    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool: ...
    def get_tensor_shape(self, name: str) -> tuple[int, ...]: ...
    def set_tensor_address(self, name: str, memory: int) -> bool: ...
    def update_device_memory_size_for_shapes(self) -> int: ...
    def set_device_memory(self, memory: int, size: int) -> None: ...
    def execute_async_v3(self, stream_handle: int) -> bool: ...
    def is_stream_capturable(self, stream: int) -> bool: ...


class Runtime(Protocol):
    """Loads engines."""

    engine_host_code_allowed: bool

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None: ...


# In the class below, the plain names are attributes.
_Builder: TypeAlias = Builder
_Engine: TypeAlias = ICudaEngine
_Logger: TypeAlias = ILogger
_Monitor: TypeAlias = IProgressMonitor
_Network: TypeAlias = INetworkDefinition
_Parser: TypeAlias = OnnxParser
_ParserRefitter: TypeAlias = OnnxParserRefitter
_Refitter: TypeAlias = Refitter
_Runtime: TypeAlias = Runtime


class TensorRT(Protocol):
    """The module itself: `tensorrt` or `tensorrt_rtx_bindings`."""

    __version__: str
    ILogger: type[_Logger]
    IProgressMonitor: type[_Monitor]
    Builder: Callable[[_Logger], _Builder]
    OnnxParser: Callable[[_Network, _Logger], _Parser]
    OnnxParserRefitter: Callable[[_Refitter, _Logger], _ParserRefitter]
    Refitter: Callable[[_Engine, _Logger], _Refitter]
    Runtime: Callable[[_Logger], _Runtime]

    # Enumerations, whose members are named where they are used.
    BuilderFlag: Any
    ComputeCapability: Any
    DynamicShapesKernelSpecializationStrategy: Any
    ExecutionContextAllocationStrategy: Any
    HardwareCompatibilityLevel: Any
    LayerInformationFormat: Any
    MemoryPoolType: Any
    NetworkDefinitionCreationFlag: Any
    ProfilingVerbosity: Any
    TensorIOMode: Any

    def nptype(self, trt_type: Any, /) -> type: ...
