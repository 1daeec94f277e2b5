"""The smallest graphs, to see what engines can do here."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

_SHAPE = 1, 48, 8, 8


@cache
def eight_bit_products_saturate() -> bool:
    """Whether ONNX Runtime's 8-bit convolution is inexact here, as on x86 without VNNI.

    Instructions for 16-bit sums of two products clip them; tried with the largest ones.
    """
    import onnxruntime as ort

    session = ort.InferenceSession(_largest_products(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": _all_255()})
    return _is_clipped(y)


@cache
def eight_bit_products_saturate_in_openvino() -> bool:
    """The same of OpenVINO, which has no kernels that are exact there."""
    import openvino

    core = openvino.Core()
    (y,) = core.compile_model(core.read_model(_largest_products()), "CPU")(_all_255()).to_tuple()
    return _is_clipped(y)


def identity() -> bytes:
    """The smallest graph a session can be opened with."""
    return _graph([onnx.helper.make_node("Identity", ["x"], ["y"])], [1])


def _all_255() -> NDArray[np.float32]:
    return np.full(_SHAPE, 255, np.float32)


def _is_clipped(y: NDArray[np.float32]) -> bool:
    """Whether this is not what `_largest_products` gives for `_all_255`: 200, to rounding."""
    return bool((np.rint(y) != 200).any())


def _largest_products() -> bytes:
    """An 8-bit 1×1 convolution of 48 channels, in fp32 with a pair of Q and DQ on both sides."""
    one = "scale", "zero"
    values = {
        "scale": np.float32(1),
        "zero": np.uint8(0),
        "w.quantized": np.full((48, 48, 1, 1), 127, np.int8),
        "w.scale": np.float32(200 / (48 * 255 * 127)),
    }
    nodes = [
        onnx.helper.make_node(operator, inputs, [output])
        for operator, inputs, output in (
            ("QuantizeLinear", ["x", *one], "x.quantized"),
            ("DequantizeLinear", ["x.quantized", *one], "x.dequantized"),
            ("DequantizeLinear", ["w.quantized", "w.scale"], "w"),
            ("Conv", ["x.dequantized", "w"], "sums"),
            ("QuantizeLinear", ["sums", *one], "y.quantized"),
            ("DequantizeLinear", ["y.quantized", *one], "y"),
        )
    ]
    return _graph(nodes, _SHAPE, values)


def _graph(
    nodes: Sequence[onnx.NodeProto],
    shape: Sequence[int],
    constants: Mapping[str, Any] | None = None,
) -> bytes:
    """A graph of these nodes from x to y, both fp32 of this shape."""
    float32 = onnx.TensorProto.FLOAT
    x, y = (onnx.helper.make_tensor_value_info(name, float32, shape) for name in "xy")
    tensors = [onnx.numpy_helper.from_array(np.asarray(v), n) for n, v in (constants or {}).items()]
    graph = onnx.helper.make_graph(nodes, "", [x], [y], tensors)
    opset = onnx.helper.make_opsetid("", 18)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10)
    return bytes(model.SerializeToString())
