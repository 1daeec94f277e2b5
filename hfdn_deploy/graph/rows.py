"""Depth-to-space as steps that a backend with channels-last memory runs as copies of rows."""

import onnx
from onnx import NodeProto, parser

from hfdn_deploy.graph.view import GraphView, attributes_of, rewired

# If nothing is cropped, backends leave the Slice out.
_STEPS = """
steps (float[N, C, H, W] source) => (float[N, D, I, X] result)
<int64[5] rows = {{0, 0, 0, {block}, -1}}, int64[4] more = {{1, {block}, {block}, 1}},
 int64[4] fewer = {{1, 1, 1, {blocks}}}, int64[2] axes = {{1, 2}},
 int64[2] starts = {{0, 0}}, int64[2] ends = {{{end}, {end}}}> {{
  last = Transpose <perm = [0, 2, 3, 1]> (source)
  split = Reshape (last, rows)
  sorted = Transpose <perm = [0, 1, 3, 2, 4]> (split)
  shape = Shape (last)
  larger = Mul (shape, more)
  size = Div (larger, fewer)
  joined = Reshape (sorted, size)
  inner = Slice (joined, starts, ends, axes)
  result = Transpose <perm = [0, 3, 1, 2]> (inner)
}}
"""
_LARGEST = 2**31 - 1


def pixels_by_rows(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the same function with every depth-to-space of order DCR split into steps.

    When a pixel becomes s² pixels, those of a row are already side by side in channels-last memory,
    so only rows of s·C values must be sorted. The transpositions before and after move nothing
    there, and a crop is made between them.
    """
    view = GraphView(model)
    crops = {node.input[0]: node for node in view.nodes if node.op_type == "Slice"}
    taken = {name for name, maker in view.makers.items() if _is_by_depth(maker)}
    nodes: list[NodeProto] = []
    constants = dict(view.tensors)
    for node in view.nodes:
        if _is_by_depth(node):
            added, tensors = _steps(node, crops.get(node.output[0]))
            nodes += added
            constants = tensors | constants  # the constants of a crop stay
        elif not (node.op_type == "Slice" and node.input[0] in taken):
            nodes.append(node)
    return view.changed(nodes=nodes, constants=constants)


def _is_by_depth(node: NodeProto) -> bool:
    return attributes_of(node).get("mode") == b"DCR"


def _steps(
    node: NodeProto, crop: NodeProto | None
) -> tuple[list[NodeProto], dict[str, onnx.TensorProto]]:
    """Return the steps of a depth-to-space and the crop behind it, named after its result."""
    block = attributes_of(node)["blocksize"]
    steps = parser.parse_graph(_STEPS.format(block=block, blocks=block**2, end=_LARGEST))
    inside = [name for step in steps.node for name in (*step.input, *step.output)]
    names = {name: f"{node.output[0]}.{name}" for name in inside}
    names |= {"source": node.input[0], "result": (crop or node).output[0]}
    if crop:
        names |= {"starts": crop.input[1], "ends": crop.input[2]}
    nodes = [rewired(step, names, names) for step in steps.node]
    for step in nodes:
        step.name = step.output[0]
    tensors = {}
    for tensor in steps.initializer:
        tensor.name = names[tensor.name]
        tensors[tensor.name] = tensor
    return nodes, tensors
