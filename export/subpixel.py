"""Transposed convolutions as convolutions and a depth-to-space, for engines that lack them.

ONNX Runtime has no integer transposed convolution, OpenVINO a slow one.
"""

from collections.abc import Iterator

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from export.graph import attributes_of


def deconvolutions_to_subpixels(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same function, every ConvTranspose and its LeakyReLU rewritten.

    A kernel of k at stride s is ceil(k / s) taps for each of s² phases, which become channels
    (W. Shi et al., "Is the deconvolution layer the same as a convolutional layer?", 2016). The
    activation stays next to its convolution, where engines fuse it, for it commutes with the
    depth-to-space behind it. Tensors keep their names; the new ones are `NAME.pixels` and
    `NAME.cropped`.
    """
    rewritten = onnx.ModelProto()
    rewritten.CopyFrom(model)
    graph = rewritten.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    activations = {node.input[0]: node for node in graph.node if node.op_type == "LeakyRelu"}
    moved = [n.output[0] for n in graph.node if n.op_type == "ConvTranspose"]
    renamed: dict[str, str] = {}
    nodes = []
    for node in graph.node:
        if node.op_type == "ConvTranspose":
            rearranged = list(_rewrite(node, activations[node.output[0]], weights))
            graph.initializer.extend(x for x in rearranged if isinstance(x, onnx.TensorProto))
            nodes += [x for x in rearranged if isinstance(x, onnx.NodeProto)]
            renamed[activations[node.output[0]].output[0]] = nodes[-1].output[0]
        elif node.input[0] not in moved:
            node.input[:] = [renamed.get(name, name) for name in node.input]
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(rewritten, full_check=True)
    return rewritten


def _rewrite(
    node: onnx.NodeProto, activation: onnx.NodeProto, weights: dict[str, onnx.TensorProto]
) -> Iterator[onnx.NodeProto | onnx.TensorProto]:
    """The nodes and constants that take the place of a transposed convolution."""
    attributes = attributes_of(node)
    stride, padding = attributes["strides"][0], attributes["pads"][0]
    kernel = numpy_helper.to_array(weights[node.input[1]])
    size = kernel.shape[2]
    taps = -(-size // stride)
    bias = np.repeat(numpy_helper.to_array(weights[node.input[2]]), stride**2)
    for name, values in ((node.input[1], _phases(kernel, stride, taps)), (node.input[2], bias)):
        weights[name].CopyFrom(numpy_helper.from_array(values, name))
    pads = [taps - 1] * 4
    shape = [taps, taps]
    yield helper.make_node(
        "Conv", node.input, node.output, node.name, kernel_shape=shape, pads=pads
    )
    yield activation
    stem = activation.output[0]
    pixels = f"{stem}.pixels"
    yield helper.make_node("DepthToSpace", [stem], [pixels], pixels, blocksize=stride, mode="CRD")
    # Without padding the transposed convolution gives stride·(H - 1) + size pixels, and the
    # whole phases stride·(H + taps - 1); stride·H are wanted.
    before, after = padding, stride * (taps - 1) - padding
    if before or after:
        constants = {"starts": [before] * 2, "ends": [-after] * 2, "axes": [2, 3]}
        for key, integers in constants.items():
            yield numpy_helper.from_array(np.array(integers, np.int64), f"{stem}.{key}")
        cropped = f"{stem}.cropped"
        inputs = [pixels, *(f"{stem}.{key}" for key in constants)]
        yield helper.make_node("Slice", inputs, [cropped], cropped)


def _phases(kernel: NDArray[np.float32], stride: int, taps: int) -> NDArray[np.float32]:
    """(in, out, k, k) of a transposed convolution to (out·stride², in, taps, taps).

    Output pixel stride·i + r sums input i - a times tap stride·a + r over a.
    """
    inputs, outputs, size, _ = kernel.shape
    padded = np.pad(kernel, [(0, 0), (0, 0)] + [(0, stride * taps - size)] * 2)
    split = padded.reshape(inputs, outputs, taps, stride, taps, stride)[:, :, ::-1, :, ::-1]
    phases = split.transpose(1, 3, 5, 0, 2, 4).reshape(outputs * stride**2, inputs, taps, taps)
    return np.ascontiguousarray(phases)
