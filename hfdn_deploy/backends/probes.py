"""The smallest graphs, to see what engines can do here."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import onnx

_ALL_255 = np.full((1, 48, 8, 8), 255, np.uint8)


@cache
def eight_bit_products_saturate() -> bool:
    """Whether ONNX Runtime's 8-bit convolution is inexact here, as on x86 without VNNI.

    Instructions for 16-bit sums of two products clip them; tried with the largest ones.
    """
    import onnxruntime as ort

    session = ort.InferenceSession(_largest_products(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": _ALL_255})
    return bool((y != 200).any())


@cache
def eight_bit_products_saturate_in_openvino() -> bool:
    """The same of OpenVINO, which has no kernels that are exact there."""
    import openvino

    core = openvino.Core()
    (y,) = core.compile_model(core.read_model(_largest_products()), "CPU")(_ALL_255).to_tuple()
    return bool((y != 200).any())


def identity() -> bytes:
    """The smallest graph a session can be opened with."""
    return _graph(onnx.helper.make_node("Identity", ["x"], ["y"]), onnx.TensorProto.FLOAT, [1])


def _largest_products() -> bytes:
    """An 8-bit 1×1 convolution of 48 channels whose outputs are 200 for `_ALL_255`."""
    values = {
        "x_scale": np.float32(1),
        "x_zero": np.uint8(0),
        "w": np.full((48, 48, 1, 1), 127, np.int8),
        "w_scale": np.float32(1),
        "w_zero": np.int8(0),
        "y_scale": np.float32(48 * 255 * 127 / 200),
        "y_zero": np.uint8(0),
    }
    node = onnx.helper.make_node("QLinearConv", ["x", *values], ["y"])
    return _graph(node, onnx.TensorProto.UINT8, [*_ALL_255.shape], values)


def _graph(
    node: onnx.NodeProto, dtype: int, shape: list[int], constants: Mapping[str, Any] | None = None
) -> bytes:
    """A graph of one node from x to y, both of this type and shape."""
    x, y = (onnx.helper.make_tensor_value_info(name, dtype, shape) for name in "xy")
    tensors = [onnx.numpy_helper.from_array(np.asarray(v), n) for n, v in (constants or {}).items()]
    graph = onnx.helper.make_graph([node], "", [x], [y], tensors)
    opset = onnx.helper.make_opsetid("", 18)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10)
    return bytes(model.SerializeToString())
