"""Models of a few nodes, for trying a backend or an operator."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import ArrayLike, DTypeLike
from onnx import ValueInfoProto, helper, numpy_helper

OPSET = 18
IR_VERSION = 10

Types = Mapping[str, tuple[DTypeLike, Sequence[int | str] | None]]
"""Dtype and shape of inputs or outputs by name; None is an unknown shape."""


def tiny_model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Types,
    outputs: Types,
    constants: Mapping[str, ArrayLike] | None = None,
) -> onnx.ModelProto:
    """Return a model of these nodes, in the opset that the exporter writes.

    Args:
        nodes: in the order in which they are computed.
        inputs: what the model reads, by name.
        outputs: what the model computes, by name.
        constants: weights and other arrays that the nodes read, by name.
    """
    tensors = [numpy_helper.from_array(np.asarray(v), n) for n, v in (constants or {}).items()]
    graph = helper.make_graph(nodes, "tiny", _declared(inputs), _declared(outputs), tensors)
    opset = helper.make_opsetid("", OPSET)
    return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)


def _declared(types: Types) -> list[ValueInfoProto]:
    return [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), shape)
        for name, (kind, shape) in types.items()
    ]
