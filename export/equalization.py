"""Channel equalization: the same function, with channels scaled to share a range well.

M. Nagel et al., "Data-free quantization through weight equalization and bias correction", 2019,
section 4.1: a LeakyReLU commutes with a positive factor, so a channel may be multiplied where it is
computed and divided where it is read.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from export.layers import output_axis
from hfdn_deploy.graph import GraphView

Groups = dict[str, NDArray[np.int64]]
"""By tensor, the group of each channel."""


def is_learned(node: onnx.NodeProto) -> bool:
    """Return whether a node is a learned convolution; the bicubic base has no bias."""
    return node.op_type.startswith("Conv") and len(node.input) > 2


def channel_groups(model: onnx.ModelProto) -> Groups:
    """Return the groups of channels of an fp32 graph that must be scaled alike, by tensor.

    Tensors that are added share their groups; a concatenation has the groups of its parts. Group 0
    is never scaled: it holds the input, the output and the inputs of operators that do not commute
    with a factor, such as a sigmoid.
    """
    view = GraphView(model)
    parents = [0]

    def root(group: int) -> int:
        while parents[group] != group:
            group = parents[group]
        return group

    def join(some: Sequence[int], others: Sequence[int]) -> None:
        for pair in zip(some, others, strict=True):
            low, high = sorted(map(root, pair))
            parents[high] = low

    groups: dict[str, list[int]] = {view.inputs[0].name: [0]}
    for node in view.nodes:
        inputs = [groups[name] for name in node.input if name in groups]
        made = inputs[0]
        if is_learned(node):
            made = [len(parents) + i for i in range(view.constants[node.input[2]].size)]
            parents += made
        elif node.op_type == "Concat":
            made = [group for part in inputs for group in part]
        elif node.op_type == "Add":
            join(*inputs)
        elif node.op_type == "Mul":
            join(inputs[1], [0] * len(inputs[1]))
        elif node.op_type not in ("LeakyRelu", "GlobalAveragePool", "Pad"):
            join(made, [0] * len(made))
            made = [0]
        groups[node.output[0]] = made
    output = groups[view.outputs[0].name]
    join(output, [0] * len(output))
    return {name: np.array([root(group) for group in made]) for name, made in groups.items()}


def equalized(model: onnx.ModelProto, scales: Mapping[str, Sequence[float]]) -> onnx.ModelProto:
    """Return the same function as an fp32 graph with inner channels scaled by positive factors.

    Args:
        scales: a factor for each output channel, by learned convolution.

    Raises:
        ValueError: the factors do not fit the graph, or differ within a group.
    """
    factors = channel_factors(model, scales)
    view = GraphView(model)
    constants: dict[str, NDArray[np.float32]] = {}
    for node in filter(is_learned, view.nodes):
        weight, bias = node.input[1:]
        made = factors[node.output[0]]
        change = np.outer(made, 1 / factors[node.input[0]])
        if output_axis(node):
            change = change.T
        constants[weight] = (view.constants[weight] * change[:, :, None, None]).astype(np.float32)
        constants[bias] = (view.constants[bias] * made).astype(np.float32)
    return view.changed(constants=view.tensors | constants)


def channel_factors(
    model: onnx.ModelProto, scales: Mapping[str, Sequence[float]]
) -> dict[str, NDArray[np.float64]]:
    """Return the factor of each channel, by tensor; see `equalized`."""
    groups = channel_groups(model)
    learned = {node.name: node.output[0] for node in filter(is_learned, model.graph.node)}
    if learned.keys() != scales.keys():
        raise ValueError("the scales are for other convolutions")
    factors = {0: 1.0}
    for name, given in scales.items():
        made = groups[learned[name]].tolist()
        if len(given) != len(made):
            raise ValueError(f"{name} has {len(made)} channels, not {len(given)}")
        for group, factor in zip(made, given, strict=True):
            if not factor > 0 or factors.setdefault(group, factor) != factor:
                raise ValueError(f"a channel of {name} cannot be scaled by {factor}")
    return {name: np.array([factors[g] for g in made.tolist()]) for name, made in groups.items()}
