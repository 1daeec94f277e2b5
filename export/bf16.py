"""bfloat16 as engines compute it, told to ONNX Runtime, so that it is judged on any CPU."""

import onnx
from onnx import TensorProto, helper


def emulate_bf16(model: onnx.ModelProto) -> onnx.ModelProto:
    """An fp32 graph with the input, every weight and every result but the last rounded to bf16.

    That is what an engine does whose products have bf16 operands and fp32 sums.
    """
    rounded = onnx.ModelProto()
    rounded.CopyFrom(model)
    graph = rounded.graph
    exact = {t.name for t in graph.initializer if t.data_type != TensorProto.FLOAT}
    floats = [t.name for t in graph.initializer if t.name not in exact]
    nodes = [node for name in (graph.input[0].name, *floats) for node in _rounding(name)]
    for node in graph.node:
        node.input[:] = [x if x in exact or not x else f"{x}.rounded" for x in node.input]
        nodes += [node, *_rounding(node.output[0])]
    del graph.node[:]
    graph.node.extend(nodes[:-2])
    onnx.checker.check_model(rounded, full_check=True)
    return rounded


def _rounding(name: str) -> list[onnx.NodeProto]:
    short, result = f"{name}.bf16", f"{name}.rounded"
    return [
        helper.make_node("Cast", [name], [short], short, to=TensorProto.BFLOAT16),
        helper.make_node("Cast", [short], [result], result, to=TensorProto.FLOAT),
    ]
