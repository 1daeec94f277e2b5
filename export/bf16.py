"""Emulation of bf16 inference in ONNX Runtime, so that bf16 can be judged on any CPU."""

from collections.abc import Sequence

import onnx
from onnx import TensorProto, helper

from hfdn_deploy.graph import GraphView, rewired

_INTEGERS = ("QuantizeLinear", "DequantizeLinear")


def emulate_bf16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph with input, weights and results rounded to bf16, as OpenVINO does.

    Products have bf16 operands and fp32 sums. Integers stay exact. A result that is only activated
    or quantised is not rounded before that, and the nodes after the last convolutions are in fp32.
    """
    view = GraphView(model)
    tail = _tail(view)
    scales = {name for node in view.nodes if node.op_type in _INTEGERS for name in node.input[1:]}
    exact = {node.output[0] for node in view.nodes if node.op_type in _INTEGERS}
    exact |= {name for name, readers in view.readers.items() if _goes_on(readers)} | tail
    floats = {name for name, x in view.tensors.items() if x.data_type == TensorProto.FLOAT}
    sources = [view.inputs[0].name, *sorted(floats - scales)]
    names = {x: f"{x}.rounded" for x in (*sources, *view.makers) if x not in exact}
    made = {name: short for name, short in names.items() if name in view.makers}
    nodes = [node for name in sources for node in _rounding(name)]
    for node in view.nodes:
        nodes.append(rewired(node, made if node.output[0] in tail else names))
        if node.output[0] in names:
            nodes += _rounding(node.output[0])
    rounded = view.changed(nodes=nodes)
    onnx.checker.check_model(rounded, full_check=True)
    return rounded


def _goes_on(readers: Sequence[onnx.NodeProto]) -> bool:
    """Return whether the step that makes a result also activates or quantises it."""
    return {node.op_type for node in readers} <= {"QuantizeLinear", "LeakyRelu"}


def _tail(view: GraphView) -> set[str]:
    """Return the results after the last convolutions; transposed convolutions do not count."""
    tail: set[str] = set()
    left = [view.outputs[0].name]
    while left:
        name = left.pop()
        maker = view.makers.get(name)
        if maker and maker.op_type != "Conv":
            tail.add(name)
            left += maker.input
    return tail


def _rounding(name: str) -> list[onnx.NodeProto]:
    short, result = f"{name}.bf16", f"{name}.rounded"
    return [
        helper.make_node("Cast", [name], [short], short, to=TensorProto.BFLOAT16),
        helper.make_node("Cast", [short], [result], result, to=TensorProto.FLOAT),
    ]
