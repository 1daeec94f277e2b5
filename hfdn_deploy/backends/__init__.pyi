from .base import Backend, Features, Model, Parts, SplitNetwork, Tiling
from .onnxruntime import OnnxRuntimeBackend, session_options
from .opening import open_backend, open_model, why_unavailable
from .openvino import OpenVINOBackend, why_not
from .openvino_session import compile_graph
from .spec import BACKENDS, CHECKPOINT_SUFFIXES, NAMES, BackendSpec, Obstacle, by_speed
from .tensorrt import TensorRTBackend
from .torch import TorchBackend
from .torch_cuda import TorchCudaBackend

__all__ = [
    "BACKENDS",
    "CHECKPOINT_SUFFIXES",
    "NAMES",
    "Backend",
    "BackendSpec",
    "Features",
    "Model",
    "Obstacle",
    "OnnxRuntimeBackend",
    "OpenVINOBackend",
    "Parts",
    "SplitNetwork",
    "TensorRTBackend",
    "Tiling",
    "TorchBackend",
    "TorchCudaBackend",
    "by_speed",
    "compile_graph",
    "open_backend",
    "open_model",
    "session_options",
    "why_not",
    "why_unavailable",
]
