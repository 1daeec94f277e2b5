"""TensorRT engines of ONNX graphs: build options, builds, sidecars, the cache, and running."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
