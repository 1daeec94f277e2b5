"""ONNX graph to TensorRT engine: what to build, the build, the sidecar, the cache, the runner."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
