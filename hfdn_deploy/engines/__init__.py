"""ONNX graph to TensorRT engine: what to build, the build, the sidecar, the cache, CUDA memory."""
