"""FP16 graphs: half-precision weights and tensors in the fp32 graph."""

from dataclasses import dataclass

import numpy as np
import onnx

HALF = onnx.TensorProto.FLOAT16


@dataclass(frozen=True)
class Loss:
    """What a node's weights lose in half precision."""

    node: str
    overflowed: int
    """Values beyond ±65504, which became infinite."""
    flushed: int
    """Values other than zero that became zero."""


def to_fp16(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[Loss]]:
    """The same graph with half-precision weights and tensors; inputs and outputs stay fp32.

    Returns:
        The graph, and the nodes whose weights left the range of half precision.
    """
    half = onnx.ModelProto()
    half.CopyFrom(model)
    graph = half.graph
    losses = []
    for tensor in graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        values = onnx.numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            rounded = values.astype(np.float16)
        overflowed = int(np.isinf(rounded).sum() - np.isinf(values).sum())
        flushed = int(((rounded == 0) & (values != 0)).sum())
        if overflowed or flushed:
            node = next(node.name for node in graph.node if tensor.name in node.input)
            losses.append(Loss(node, overflowed, flushed))
        tensor.CopyFrom(onnx.numpy_helper.from_array(rounded, tensor.name))
    (source,), (result,) = graph.input, graph.output
    for node in graph.node:
        node.input[:] = [f"{name}.half" if name == source.name else name for name in node.input]
        node.output[:] = [f"{name}.half" if name == result.name else name for name in node.output]
    nodes = [_cast(source.name, f"{source.name}.half", HALF), *graph.node]
    nodes.append(_cast(f"{result.name}.half", result.name, onnx.TensorProto.FLOAT))
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(half, full_check=True)
    return half, losses


def _cast(source: str, target: str, kind: int) -> onnx.NodeProto:
    return onnx.helper.make_node("Cast", [source], [target], name=f"{target}.cast", to=kind)
