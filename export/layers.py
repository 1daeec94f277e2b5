"""The layers of an fp32 graph that may be quantised to 8 bits, and their properties."""

from collections.abc import Collection, Mapping, Sequence

import onnx

from hfdn_deploy.graph import GraphView, attributes_of, is_global_pool

Means = Mapping[str, Sequence[float]]
"""By tensor, the mean of each channel."""


def layer_macs(model: onnx.ModelProto) -> dict[str, float]:
    """Return the multiply-accumulates per input pixel of learned convolutions, in graph order.

    These are true MACs as `hfdn_deploy.network.complexity` counts them: a transposed convolution at
    its input's size. Convolutions behind a global pooling are left out, as their cost does not grow
    with the image, and so is the fixed bicubic base, which has no bias.
    """
    view = GraphView(model)
    # Pixels of each tensor for one pixel of the input.
    pixels = {view.inputs[0].name: 1.0}
    macs = {}
    for node in view.nodes:
        area = max((pixels[name] for name in node.input if name in pixels), default=0.0)
        attributes = attributes_of(node)
        if is_global_pool(node):
            area = 0.0
        if node.op_type.startswith("Conv") and len(node.input) > 2 and area:
            macs[node.name] = area * view.constants[node.input[1]].size
        if node.op_type == "ConvTranspose":
            area *= attributes["strides"][0] ** 2
        elif node.op_type == "DepthToSpace":
            area *= attributes["blocksize"] ** 2
        pixels[node.output[0]] = area
    return macs


def observed_tensors(model: onnx.ModelProto, layers: Collection[str]) -> list[str]:
    """Return the tensors of an fp32 graph whose statistics `quantize` needs."""
    names: dict[str, None] = {}
    for node in model.graph.node:
        if node.name in layers:
            names[node.input[0]] = None
        elif node.op_type == "LeakyRelu" and node.input[0] in layers:
            names |= {node.input[0]: None, node.output[0]: None}
    return list(names)


def channels_fit(model: onnx.ModelProto, layers: Collection[str], means: Means) -> bool:
    """Return whether the input of each layer has one mean for each input channel."""
    view = GraphView(model)
    return all(
        len(means[node.input[0]]) == view.tensors[node.input[1]].dims[1 - output_axis(node)]
        for node in view.nodes
        if node.name in layers
    )


def output_axis(node: onnx.NodeProto) -> int:
    """Return the axis of a convolution's weights that counts its output channels.

    Weights are (out, in, k, k), those of a transposed convolution (in, out, k, k).
    """
    return int(node.op_type == "ConvTranspose")
