"""The graphs for TensorRT, parsed and built by TensorRT-RTX, which needs no GPU for that."""

import ctypes
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from hfdn_deploy.bundle import pretrained, pretrained_scales


@pytest.fixture(scope="module")
def trt():
    """TensorRT-RTX's Python module; its libraries lie in another package, which is loaded first."""
    if not find_spec("tensorrt_rtx_bindings"):
        pytest.skip("the extra rtx is not installed")
    folder = Path(find_spec("onnxruntime_ep_nv_tensorrt_rtx").origin).parent
    for pattern in ("libtensorrt_rtx.so*", "libtensorrt_onnxparser_rtx.so*"):
        (library,) = folder.rglob(pattern)
        ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
    return import_module("tensorrt_rtx_bindings")


def build(trt, data):
    """An engine for compute capability 8.9 and the layers' descriptions."""
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    parsed = parser.parse(data)
    assert parsed, [parser.get_error(i).desc() for i in range(parser.num_errors)]
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    profile = builder.create_optimization_profile()
    profile.set_shape("lr", (1, 1, 16, 16), (1, 1, 180, 320), (1, 1, 360, 640))
    config.add_optimization_profile(profile)
    return network, builder.build_serialized_network(network, config)


@pytest.mark.parametrize("scale", pretrained_scales())
@pytest.mark.parametrize("graph", ["fp16", "int8"])
def test_graph_builds(trt, scale, graph):
    network, engine = build(trt, pretrained(scale).read_model(graph))
    assert engine is not None
    assert engine.nbytes > 100_000
    types = {}
    for i in range(network.num_layers):
        layer = network.get_layer(i)
        types.setdefault(layer.type, []).append(layer)
    quantized = types.get(trt.LayerType.QUANTIZE, [])
    assert (len(quantized) > 20) == (graph == "int8")
    assert all(layer.get_output(0).dtype == trt.int8 for layer in quantized)
