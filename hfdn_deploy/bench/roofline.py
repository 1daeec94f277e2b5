"""Multiply-accumulates per second that this machine reaches in a large matrix product."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import DTypeLike, NDArray
from onnx import helper

from hfdn_deploy import backends
from hfdn_deploy.graph import tiny_model

SIDE = 2048
MACS = SIDE**3

Run = Callable[[], object]


def products(precision: str) -> dict[str, Run]:
    """Return products of two SIDE × SIDE matrices on the CPU, by backend that supports them."""
    runs: dict[str, Run] = {}
    if precision in ("fp32", "int8") and backends.why_unavailable("onnxruntime") is None:
        runs["onnxruntime"] = _in_onnxruntime(precision)
    if precision != "fp16" and backends.why_unavailable("openvino") is None:
        from hfdn_deploy.backends import why_not

        if why_not(precision) is None:
            runs["openvino"] = _in_openvino(precision)
    return runs


def _in_onnxruntime(precision: str) -> Run:
    import onnxruntime as ort

    from hfdn_deploy.backends import session_options

    data = _integers() if precision == "int8" else _floats()
    session = ort.InferenceSession(data, session_options(), providers=["CPUExecutionProvider"])
    feeds = {"x": _input(np.dtype(np.uint8 if precision == "int8" else np.float32))}
    return lambda: session.run(None, feeds)


def _in_openvino(precision: str) -> Run:
    from hfdn_deploy.backends import compile_graph

    data = _quantized() if precision == "int8" else _floats()
    hint = "bf16" if precision == "bf16" else "f32"
    # With a fixed size, so that it is not cached on disk like the graphs of models.
    request = compile_graph(data, hint, (("x", (SIDE, SIDE)),)).create_infer_request()
    x = _input(np.dtype(np.float32))
    return lambda: request.infer([x], share_inputs=True)


def _input(dtype: np.dtype[Any]) -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, 256, (SIDE, SIDE)).astype(dtype)


def _weights() -> NDArray[np.int8]:
    return np.random.default_rng(1).integers(-127, 128, (SIDE, SIDE), np.int8)


def _floats() -> bytes:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    return _graph(nodes, {"w": _weights().astype(np.float32)})


def _integers() -> bytes:
    nodes = [helper.make_node("MatMulInteger", ["x", "w"], ["y"])]
    return _graph(nodes, {"w": _weights()}, np.uint8, np.int32)


def _quantized() -> bytes:
    """Return a product between QDQ pairs, where backends expect integer arithmetic."""
    scale = np.float32(SIDE * 127 * 255 / 256)
    constants = {
        "x.scale": np.float32(1), "x.zero": np.uint8(0), "w": _weights(),
        "w.scale": np.full(SIDE, 1, np.float32), "w.zero": np.zeros(SIDE, np.int8),
        "y.scale": scale, "y.zero": np.uint8(0),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x.scale", "x.zero"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "x.scale", "x.zero"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "w.scale", "w.zero"], ["wd"], axis=1),
        helper.make_node("MatMul", ["xd", "wd"], ["z"]),
        helper.make_node("QuantizeLinear", ["z", "y.scale", "y.zero"], ["yq"]),
        helper.make_node("DequantizeLinear", ["yq", "y.scale", "y.zero"], ["y"]),
    ]
    return _graph(nodes, constants)


def _graph(
    nodes: list[onnx.NodeProto],
    constants: dict[str, Any],
    given: DTypeLike = np.float32,
    result: DTypeLike = np.float32,
) -> bytes:
    shape = [SIDE, SIDE]
    model = tiny_model(nodes, {"x": (given, shape)}, {"y": (result, shape)}, constants)
    return bytes(model.SerializeToString())
