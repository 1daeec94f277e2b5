"""How many multiply-accumulates a second this machine reaches in a large matrix product."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SIDE = 2048
MACS = SIDE**3

Run = Callable[[], object]


def products(precision: str) -> dict[str, Run]:
    """Products of two SIDE × SIDE matrices on the CPU, by engine; none where nothing has it."""
    runs: dict[str, Run] = {}
    if precision in ("fp32", "int8"):
        runs["onnxruntime"] = _in_onnxruntime(precision)
    return runs


def _in_onnxruntime(precision: str) -> Run:
    import onnxruntime as ort

    from hfdn_deploy.backends.onnxruntime import session_options

    data = _integers() if precision == "int8" else _floats()
    session = ort.InferenceSession(data, session_options(), providers=["CPUExecutionProvider"])
    feeds = {"x": _input(np.dtype(np.uint8 if precision == "int8" else np.float32))}
    return lambda: session.run(None, feeds)


def _input(dtype: np.dtype[Any]) -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, 256, (SIDE, SIDE)).astype(dtype)


def _weights() -> NDArray[np.int8]:
    return np.random.default_rng(1).integers(-127, 128, (SIDE, SIDE), np.int8)


def _floats() -> bytes:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    return _graph(nodes, {"w": _weights().astype(np.float32)}, TensorProto.FLOAT, TensorProto.FLOAT)


def _integers() -> bytes:
    nodes = [helper.make_node("MatMulInteger", ["x", "w"], ["y"])]
    return _graph(nodes, {"w": _weights()}, TensorProto.UINT8, TensorProto.INT32)


def _graph(
    nodes: list[onnx.NodeProto], constants: dict[str, Any], given: int, result: int
) -> bytes:
    shape = [SIDE, SIDE]
    x = helper.make_tensor_value_info("x", given, shape)
    y = helper.make_tensor_value_info("y", result, shape)
    tensors = [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()]
    graph = helper.make_graph(nodes, "product", [x], [y], tensors)
    opset = helper.make_opsetid("", 18)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=10)
    return bytes(model.SerializeToString())
