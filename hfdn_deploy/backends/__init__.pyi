from .onnxruntime import OnnxRuntimeBackend, session_options
from .openvino import compile_graph, why_not
from .registry import (
    FASTEST_ON_CPU,
    NAMES,
    Backend,
    ClockedBackend,
    Features,
    Model,
    SplitNetwork,
    TilingBackend,
    open_backend,
    why_unavailable,
)
from .torch import TorchBackend

__all__ = [
    "FASTEST_ON_CPU",
    "NAMES",
    "Backend",
    "ClockedBackend",
    "Features",
    "Model",
    "OnnxRuntimeBackend",
    "SplitNetwork",
    "TilingBackend",
    "TorchBackend",
    "compile_graph",
    "open_backend",
    "session_options",
    "why_not",
    "why_unavailable",
]
