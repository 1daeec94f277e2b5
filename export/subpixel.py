"""Work at high resolution rewritten for CPU engines, as low-resolution channels.

ONNX Runtime has no integer transposed convolution, OpenVINO a slow one; and both fill vectors with
output channels, of which the last convolution has one.
"""

from collections.abc import Iterator

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from hfdn_deploy.graph import attributes_of


def to_subpixels(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same function, every ConvTranspose, its LeakyReLU and the last Conv rewritten.

    A kernel of k at stride s is ceil(k / s) taps for each of s² phases, which become channels
    (W. Shi et al., "Is the deconvolution layer the same as a convolutional layer?", 2016). The
    activation stays next to its convolution, where engines fuse it, for it commutes with the
    depth-to-space behind it. Tensors keep their names; the new ones are `NAME.pixels`,
    `NAME.cropped` and `NAME.phases`.
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
    _add_as_phases(nodes, weights)
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(rewritten, full_check=True)
    return rewritten


def _add_as_phases(nodes: list[onnx.NodeProto], weights: dict[str, onnx.TensorProto]) -> None:
    """Add the last convolution to the base before the base's depth-to-space, not behind it.

    For that its s × s phases are s² output channels at stride s, of the kernel shifted by as many
    pixels: more taps, all but those of the kernel zero, but full vectors.
    """
    made = {node.output[0]: node for node in nodes}
    add = nodes[-1]
    base, last = (made[name] for name in add.input)
    scale = attributes_of(base)["blocksize"]
    kernel, bias = (numpy_helper.to_array(weights[name]) for name in last.input[1:])
    size = kernel.shape[2]
    phases = np.zeros((scale, scale, *kernel.shape[1:2], *[size + scale - 1] * 2), np.float32)
    for row, column in np.ndindex(scale, scale):
        phases[row, column, :, row : row + size, column : column + size] = kernel[0]
    values = (phases.reshape(-1, *phases.shape[2:]), np.repeat(bias, scale**2))
    for name, value in zip(last.input[1:], values, strict=True):
        weights[name].CopyFrom(numpy_helper.from_array(value, name))
    attributes = {
        **attributes_of(last),
        "kernel_shape": values[0].shape[2:],
        "strides": [scale] * 2,
    }
    stem = last.name
    summed, result = f"{add.name}.phases", add.output[0]
    nodes.remove(base)
    nodes[nodes.index(last)] = helper.make_node(
        "Conv", last.input, [f"{stem}.phases"], stem, **attributes
    )
    nodes[-1:] = [
        helper.make_node("Add", [base.input[0], f"{stem}.phases"], [summed], add.name),
        helper.make_node(
            "DepthToSpace", [summed], [result], base.name, blocksize=scale, mode="CRD"
        ),
    ]


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
