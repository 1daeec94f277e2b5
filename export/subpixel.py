"""High-resolution layers rewritten as low-resolution channels, for backends on a CPU.

ONNX Runtime has no integer transposed convolution, and OpenVINO's is slow. Both fill vectors with
output channels, and the last convolution has only one.
"""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from hfdn_deploy.graph import GraphView, attributes_of, rewired

Constants = dict[str, NDArray[Any]]


def to_subpixels(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the same function with every ConvTranspose, its LeakyReLU and the last Conv rewritten.

    A kernel of k at stride s is ceil(k / s) taps for each of s² phases, which become channels
    (W. Shi et al., "Is the deconvolution layer the same as a convolutional layer?", 2016). The
    activation commutes with the depth-to-space, so it stays next to its convolution, where backends
    fuse it. Tensors keep their names; new tensors are `NAME.pixels`, `NAME.cropped` and
    `NAME.phases`.
    """
    rewritten = _last_to_phases(_deconvolutions_to_phases(model))
    onnx.checker.check_model(rewritten, full_check=True)
    return rewritten


def _deconvolutions_to_phases(model: onnx.ModelProto) -> onnx.ModelProto:
    view = GraphView(model)
    constants: Constants = {}
    renamed: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []
    for node in view.nodes:
        if node.op_type == "ConvTranspose":
            (activation,) = view.readers[node.output[0]]
            rewritten, added = _rewrite(node, activation, view.constants)
            nodes += rewritten
            constants |= added
            renamed[activation.output[0]] = nodes[-1].output[0]
        elif node.output[0] not in renamed:
            nodes.append(rewired(node, renamed))
    return view.changed(nodes=nodes, constants=view.tensors | constants)


def _last_to_phases(model: onnx.ModelProto) -> onnx.ModelProto:
    """Add the last convolution to the base in front of the base's depth-to-space, not behind it.

    To do so, its s × s phases become s² output channels at stride s, each with the kernel shifted
    by its phase. This has more taps, most of them zero, but fills vectors.
    """
    view = GraphView(model)
    add = view.nodes[-1]
    base, last = (view.makers[name] for name in add.input)
    scale = attributes_of(base)["blocksize"]
    weight, bias = last.input[1:]
    kernel = view.constants[weight]
    size = kernel.shape[2]
    phases = np.zeros((scale, scale, *kernel.shape[1:2], *[size + scale - 1] * 2), np.float32)
    for row, column in np.ndindex(scale, scale):
        phases[row, column, :, row : row + size, column : column + size] = kernel[0]
    phases = phases.reshape(-1, *phases.shape[2:])
    constants = {weight: phases, bias: np.repeat(view.constants[bias], scale**2)}
    attributes = {
        **attributes_of(last),
        "kernel_shape": phases.shape[2:],
        "strides": [scale] * 2,
    }
    result, summed = f"{last.name}.phases", f"{add.name}.phases"
    replaced = {
        base.name: [],
        last.name: [helper.make_node("Conv", last.input, [result], last.name, **attributes)],
        add.name: [
            helper.make_node("Add", [base.input[0], result], [summed], add.name),
            helper.make_node(
                "DepthToSpace", [summed], add.output, base.name, blocksize=scale, mode="CRD"
            ),
        ],
    }
    nodes = [new for node in view.nodes for new in replaced.get(node.name, [node])]
    return view.changed(nodes=nodes, constants=view.tensors | constants)


def _rewrite(
    node: onnx.NodeProto, activation: onnx.NodeProto, weights: Constants
) -> tuple[list[onnx.NodeProto], Constants]:
    """Return the nodes and constants that replace a transposed convolution."""
    attributes = attributes_of(node)
    stride, padding = attributes["strides"][0], attributes["pads"][0]
    _, weight, bias = node.input
    kernel = weights[weight]
    size = kernel.shape[2]
    taps = -(-size // stride)
    constants: Constants = {
        weight: _phases(kernel, stride, taps),
        bias: np.tile(weights[bias], stride**2),
    }
    pads = [taps - 1] * 4
    shape = [taps, taps]
    stem = activation.output[0]
    pixels = f"{stem}.pixels"
    nodes = [
        helper.make_node("Conv", node.input, node.output, node.name, kernel_shape=shape, pads=pads),
        activation,
        helper.make_node("DepthToSpace", [stem], [pixels], pixels, blocksize=stride, mode="DCR"),
    ]
    # Without padding the transposed convolution gives stride·(H - 1) + size pixels, and the
    # whole phases stride·(H + taps - 1); the result needs stride·H.
    before, after = padding, stride * (taps - 1) - padding
    if before or after:
        bounds = {"starts": [before] * 2, "ends": [-after] * 2, "axes": [2, 3]}
        added = {f"{stem}.{key}": np.array(x, np.int64) for key, x in bounds.items()}
        cropped = f"{stem}.cropped"
        nodes.append(helper.make_node("Slice", [pixels, *added], [cropped], cropped))
        constants |= added
    return nodes, constants


def _phases(kernel: NDArray[np.float32], stride: int, taps: int) -> NDArray[np.float32]:
    """Rearrange a transposed kernel (in, out, k, k) into (stride²·out, in, taps, taps).

    Output pixel stride·i + r sums input i - a times tap stride·a + r over a.
    """
    inputs, outputs, size, _ = kernel.shape
    padded = np.pad(kernel, [(0, 0), (0, 0)] + [(0, stride * taps - size)] * 2)
    split = padded.reshape(inputs, outputs, taps, stride, taps, stride)[:, :, ::-1, :, ::-1]
    phases = split.transpose(3, 5, 1, 0, 2, 4).reshape(outputs * stride**2, inputs, taps, taps)
    return np.ascontiguousarray(phases)
