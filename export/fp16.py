"""Conversion of an fp32 graph to half precision."""

from dataclasses import dataclass

import numpy as np
import onnx

from hfdn_deploy.graph import GraphView, rewired

HALF = onnx.TensorProto.FLOAT16


@dataclass(frozen=True)
class Loss:
    """The weights of a node that leave the range of half precision."""

    node: str
    overflowed: int
    """Number of values beyond ±65504, which became infinite."""
    flushed: int
    """Number of nonzero values that became zero."""


def to_fp16(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[Loss]]:
    """Return the graph with half-precision weights and tensors; inputs and outputs stay fp32.

    Returns:
        The graph, and the nodes whose weights left the range of half precision.
    """
    view = GraphView(model)
    halves, losses = {}, []
    for tensor, values in view.constants.items():
        if values.dtype != np.float32:
            continue
        with np.errstate(over="ignore"):
            halves[tensor] = rounded = values.astype(np.float16)
        overflowed = int(np.isinf(rounded).sum() - np.isinf(values).sum())
        flushed = int(((rounded == 0) & (values != 0)).sum())
        if overflowed or flushed:
            losses.append(Loss(view.readers[tensor][0].name, overflowed, flushed))
    given, result = view.inputs[0].name, view.outputs[0].name
    source, target = f"{given}.half", f"{result}.half"
    nodes = [rewired(node, {given: source}, {result: target}) for node in view.nodes]
    half = view.changed(
        nodes=[_cast(given, source, HALF), *nodes, _cast(target, result, onnx.TensorProto.FLOAT)],
        constants=view.tensors | halves,
    )
    onnx.checker.check_model(half, full_check=True)
    return half, losses


def _cast(source: str, target: str, kind: int) -> onnx.NodeProto:
    return onnx.helper.make_node("Cast", [source], [target], name=f"{target}.cast", to=kind)
