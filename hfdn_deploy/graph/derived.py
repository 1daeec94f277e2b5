"""Graphs for OpenVINO, derived from a bundle's INT8 graph on loading."""

import numpy as np
import onnx
from onnx import helper

from hfdn_deploy.graph.view import GraphView, rewired

KEEPS_VALUES = ("DepthToSpace", "Slice")


def for_openvino(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return an INT8 graph for CPUs without the Q/DQ pairs that OpenVINO does not need.

    ONNX Runtime computes in integers only between a DQ and a Q. OpenVINO does so behind a DQ alone.
    It fuses an activation into the convolution in front of it, unless a pair separates them, and it
    does compute a pair behind an operator that only moves quantised values. Without both kinds of
    pairs the graph rounds less and is otherwise the same.
    """
    view = GraphView(model)
    quantized = {n.output[0]: n.input[0] for n in view.nodes if n.op_type == "QuantizeLinear"}
    pairs = {
        n.output[0]: quantized[n.input[0]]
        for n in view.nodes
        if n.op_type == "DequantizeLinear" and n.input[0] in quantized
    }
    idle = {}
    for result, source in pairs.items():
        maker = view.makers.get(source)
        moved = maker and maker.op_type in KEEPS_VALUES and maker.input[0] in pairs
        readers = {node.op_type for node in view.readers.get(result, ())}
        if moved or readers == {"LeakyRelu"}:
            idle[result] = source
    return GraphView(view.changed(nodes=[rewired(node, idle) for node in view.nodes])).pruned()


def for_openvino_7bit(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the result of `for_openvino` with weights in -64 … 64 at twice the scale.

    Without VNNI, OpenVINO adds two 8-bit products in 16 bits, which saturate; 2 · 255 · 64 = 32,640
    fits. Biases need the scale of the sums that they are added to, so theirs doubles, too. Halves
    are rounded to even numbers, so that they do not all move in one direction.
    """
    view = GraphView(for_openvino(model))
    read = {name for node in view.nodes if node.op_type == "Conv" for name in node.input[1:]}
    parts = [n for n in view.nodes if n.op_type == "DequantizeLinear" and n.output[0] in read]
    halved = {}
    for integers, scale in {tuple(node.input[:2]) for node in parts}:
        values = view.constants[integers]
        halved[integers] = np.rint(values / 2).astype(values.dtype)
        halved[scale] = 2 * view.constants[scale]
    return view.changed(constants=view.tensors | halved)


def for_openvino_bf16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the result of `for_openvino` with the base as a transposed convolution of stride 1.

    In bf16, OpenVINO keeps the nodes after the last convolutions in fp32; a transposed convolution
    does not count as one of these. The bicubic base makes up most of an image: in bf16 it would
    cause about two thirds of the total square error.
    """
    view = GraphView(for_openvino(model))
    total = view.makers[view.nodes[-1].input[0]]
    base = view.makers[total.input[0]]
    weight = base.input[1]
    kernel = view.constants[weight]
    size = kernel.shape[2:]
    transposed = helper.make_node(
        "ConvTranspose", base.input, base.output, base.name,
        kernel_shape=size, pads=[side - 1 for side in size] * 2,
    )  # fmt: skip
    flipped = np.ascontiguousarray(kernel.swapaxes(0, 1)[..., ::-1, ::-1])
    return view.changed(
        nodes=[transposed if node.name == base.name else node for node in view.nodes],
        constants=view.tensors | {weight: flipped},
    )


FOR_OPENVINO = {
    "int8-openvino": for_openvino,
    "int8-openvino-7bit": for_openvino_7bit,
    "int8-openvino-bf16": for_openvino_bf16,
}
"""Functions that derive graphs, by name in `bundle.DERIVED`; "bf16" is the graph itself."""
