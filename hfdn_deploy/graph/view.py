"""Lookups in an ONNX graph, and changed copies of it."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper


def attributes_of(node: NodeProto) -> dict[str, Any]:
    """Return the attributes that a node spells out, by name."""
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def rewired(
    node: NodeProto, inputs: Mapping[str, str], outputs: Mapping[str, str] | None = None
) -> NodeProto:
    """Return a copy of a node with the given inputs and outputs renamed."""
    copy = NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = [inputs.get(name, name) for name in node.input]
    if outputs:
        copy.output[:] = [outputs.get(name, name) for name in node.output]
    return copy


class GraphView:
    """The nodes and tensors of a graph by name.

    A view never changes its model, and the model must not change while it is viewed.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.nodes: Sequence[NodeProto] = model.graph.node
        self.inputs: Sequence[ValueInfoProto] = model.graph.input
        self.outputs: Sequence[ValueInfoProto] = model.graph.output

    @cached_property
    def tensors(self) -> dict[str, TensorProto]:
        """Weights and other constants as the file holds them."""
        return {tensor.name: tensor for tensor in self.model.graph.initializer}

    @cached_property
    def constants(self) -> dict[str, NDArray[Any]]:
        """The values of `tensors`."""
        return {name: numpy_helper.to_array(tensor) for name, tensor in self.tensors.items()}

    @cached_property
    def makers(self) -> dict[str, NodeProto]:
        """The node that computes each tensor."""
        return {name: node for node in self.nodes for name in node.output}

    @cached_property
    def readers(self) -> dict[str, list[NodeProto]]:
        """The nodes that read each tensor; unread tensors are missing."""
        readers: dict[str, list[NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                readers.setdefault(name, []).append(node)
        return readers

    def needed(self, names: Collection[str]) -> list[NodeProto]:
        """Return the nodes that compute these tensors, in order."""
        wanted = set(names)
        kept: list[NodeProto] = []
        for node in reversed(self.nodes):
            if wanted.intersection(node.output):
                kept.append(node)
                wanted.update(node.input)
        return kept[::-1]

    def changed(
        self,
        *,
        nodes: Iterable[NodeProto] | None = None,
        constants: Mapping[str, TensorProto | NDArray[Any]] | None = None,
        inputs: Iterable[ValueInfoProto] | None = None,
        outputs: Iterable[ValueInfoProto] | None = None,
    ) -> onnx.ModelProto:
        """Return a copy of the model in which each argument replaces everything of its kind."""
        copy = onnx.ModelProto()
        copy.CopyFrom(self.model)
        graph = copy.graph
        tensors = None if constants is None else [_tensor(*item) for item in constants.items()]
        for field, values in (
            (graph.node, nodes),
            (graph.initializer, tensors),
            (graph.input, inputs),
            (graph.output, outputs),
        ):
            if values is not None:
                del field[:]
                field.extend(values)
        return copy

    def pruned(self) -> onnx.ModelProto:
        """Return a model with only the nodes and constants that the outputs need."""
        outputs = {value.name for value in self.outputs}
        nodes = self.needed(outputs)
        read = outputs.union(*(node.input for node in nodes))
        tensors = [tensor for name, tensor in self.tensors.items() if name in read]
        graph = helper.make_graph(nodes, self.model.graph.name, self.inputs, self.outputs, tensors)
        return helper.make_model(
            graph, opset_imports=self.model.opset_import, ir_version=self.model.ir_version,
            producer_name=self.model.producer_name,
        )  # fmt: skip


def _tensor(name: str, values: TensorProto | NDArray[Any]) -> TensorProto:
    if isinstance(values, TensorProto):
        return values
    return numpy_helper.from_array(values, name)
