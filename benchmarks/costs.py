"""Costs computed from a graph alone: parameters, multiply-accumulates, memory.

The conventions are those of `hfdn_deploy.network.complexity`, which counts the PyTorch network.
Only convolutions with a bias count as learned; the fixed bicubic base has none and is free.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import onnx
from onnx import helper, shape_inference

from hfdn_deploy.graph import is_global_pool

# Low-resolution height and width, by scale. 1280×720 is not divisible by 3, so the true size for
# ×3 has the same number of pixels in another shape.
PAPER_SIZES = {2: (360, 540), 3: (240, 360), 4: (180, 270)}
TRUE_SIZES = {2: (360, 640), 3: (320, 320), 4: (180, 320)}


@dataclass(frozen=True)
class Cost:
    """The cost of a graph or of a part of it."""

    parameters: int
    """Weights and biases of convolutions; a shared tensor counts once."""
    weights: int
    """The parameters without biases."""
    macs_paper: int
    """Multiply-accumulates in the paper's convention (1080×720 HR)."""
    macs_true: int
    """Multiply-accumulates computed for the weights (1280×720 HR)."""


@dataclass(frozen=True)
class Tensor:
    """Shape and size of a value in a graph."""

    shape: tuple[int, ...]
    bytes: int


def cost(model: onnx.ModelProto, scale: int) -> Cost:
    """Return the cost of the whole graph."""
    parts = block_costs(model, scale, lambda _: "all")
    return parts["all"]


def block_costs(model: onnx.ModelProto, scale: int, block: Callable[[str], str]) -> dict[str, Cost]:
    """Return costs by block in graph order; `block` maps a node's name to its block."""
    paper, true = (tensors(model, *sizes[scale]) for sizes in (PAPER_SIZES, TRUE_SIZES))
    source = {node.output[0]: node.input[0] for node in model.graph.node if _is_cast(node)}
    seen: set[str] = set()
    sums: dict[str, list[int]] = defaultdict(lambda: [0] * 4)
    for node in model.graph.node:
        if is_global_pool(node) and _over_the_image(node, paper):
            sums[block(node.name)][2] += prod(paper[node.input[0]].shape)
        if node.op_type not in ("Conv", "ConvTranspose") or len(node.input) < 3:
            continue
        weight, bias = (prod(paper[name].shape) for name in node.input[1:3])
        row = sums[block(node.name)]
        for i, sizes in enumerate((weight + bias, weight)):
            constant = _origin(node.input[1], source)
            row[i] += sizes if constant not in seen else 0
        seen.add(_origin(node.input[1], source))
        row[2] += (weight + bias) * _pixels(paper[node.output[0]])
        computed_at = node.input[0] if node.op_type == "ConvTranspose" else node.output[0]
        row[3] += weight * _pixels(true[computed_at])
    return {name: Cost(*row) for name, row in sums.items()}


def peak_activation_bytes(model: onnx.ModelProto, scale: int) -> float:
    """Return the peak bytes of live activations per pixel of the low-resolution image.

    The nodes run in the graph's order. A value lives from the node that produces it to its last
    reader; a node's inputs and outputs live together. Nothing is fused or done in place, so a
    backend may need less.
    """
    height, width = TRUE_SIZES[scale]
    sizes = tensors(model, height, width)
    constants = {t.name for t in model.graph.initializer}
    last_use: dict[str, int] = {}
    for i, node in enumerate(model.graph.node):
        last_use.update(dict.fromkeys(node.input, i))
    last_use.update({value.name: len(model.graph.node) for value in model.graph.output})
    alive = {value.name: sizes[value.name].bytes for value in model.graph.input}
    peak = 0
    for i, node in enumerate(model.graph.node):
        if set(node.input) <= constants:
            # The output is constant too, such as a dequantised weight.
            constants.update(node.output)
            continue
        alive.update({name: sizes[name].bytes for name in node.output if name})
        peak = max(peak, sum(alive.values()))
        alive = {name: size for name, size in alive.items() if last_use.get(name, i) > i}
    return peak / (height * width)


def tensors(model: onnx.ModelProto, height: int, width: int) -> dict[str, Tensor]:
    """Return every value of the graph by name, for one low-resolution image of this size."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    dims = fixed.graph.input[0].type.tensor_type.shape.dim
    for dim, size in zip(dims, (1, dims[1].dim_value, height, width), strict=True):
        dim.dim_value = size
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")
    inferred = shape_inference.infer_shapes(fixed, strict_mode=True, data_prop=True).graph
    found = {t.name: _tensor(t.data_type, tuple(t.dims)) for t in inferred.initializer}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        kind = value.type.tensor_type
        if not all(dim.HasField("dim_value") for dim in kind.shape.dim):
            raise ValueError(f"the shape of {value.name} cannot be inferred.")
        found[value.name] = _tensor(kind.elem_type, tuple(d.dim_value for d in kind.shape.dim))
    return found


def _tensor(kind: int, shape: tuple[int, ...]) -> Tensor:
    return Tensor(shape, prod(shape) * helper.tensor_dtype_to_np_dtype(kind).itemsize)


def _pixels(tensor: Tensor) -> int:
    return prod(tensor.shape[2:])


def _over_the_image(node: onnx.NodeProto, known: dict[str, Tensor]) -> bool:
    """Return whether a mean leaves one value per channel, unlike a mean over channels."""
    return prod(known[node.output[0]].shape[2:]) == 1


def _is_cast(node: onnx.NodeProto) -> bool:
    return node.op_type in ("Cast", "DequantizeLinear")


def _origin(name: str, source: dict[str, str]) -> str:
    """Return the name of the constant that a weight was cast or dequantised from."""
    while name in source:
        name = source[name]
    return name
