"""bfloat16 as backends compute it, told to ONNX Runtime, so that it is judged on any CPU."""

import onnx
from onnx import TensorProto, helper

from hfdn_deploy.graph import GraphView, rewired


def emulate_bf16(model: onnx.ModelProto) -> onnx.ModelProto:
    """An fp32 graph with the input, every weight and every result but the last rounded to bf16.

    That is what a library does whose products have bf16 operands and fp32 sums.
    """
    view = GraphView(model)
    floats = [name for name, x in view.tensors.items() if x.data_type == TensorProto.FLOAT]
    sources = [view.inputs[0].name, *floats]
    names = {name: f"{name}.rounded" for name in (*sources, *view.makers)}
    nodes = [node for name in sources for node in _rounding(name)]
    for node in view.nodes:
        nodes += [rewired(node, names), *_rounding(node.output[0])]
    rounded = view.changed(nodes=nodes[:-2])
    onnx.checker.check_model(rounded, full_check=True)
    return rounded


def _rounding(name: str) -> list[onnx.NodeProto]:
    short, result = f"{name}.bf16", f"{name}.rounded"
    return [
        helper.make_node("Cast", [name], [short], short, to=TensorProto.BFLOAT16),
        helper.make_node("Cast", [short], [result], result, to=TensorProto.FLOAT),
    ]
