"""How far around a pixel a graph reads, walked backwards through its nodes."""

from typing import Any

import onnx
from numpy.typing import NDArray

from hfdn_deploy.errors import BundleError
from hfdn_deploy.graph.parts import is_global_pool
from hfdn_deploy.graph.view import GraphView, attributes_of


def halo_of(model: onnx.ModelProto, scale: int) -> int:
    """Input pixels around an output pixel's own that can reach it, global pooling aside.

    They reach what is pooled at that pixel, too: the same tiles serve to gather the statistics.
    Walks the graph backwards from the `scale` output pixels of one input pixel, keeping for
    each tensor the interval of positions (along one axis) that they need.

    Raises:
        BundleError: it has operators that are used otherwise than the network's.
    """
    try:
        return _walked(model, scale)
    except Exception as error:  # whatever attributes and constants that are missing or odd raise
        raise BundleError(
            f"how far the graph reads around a pixel cannot be told ({error!r}); export the bundle "
            "anew."
        ) from None


def _walked(model: onnx.ModelProto, scale: int) -> int:
    view = GraphView(model)
    needed = {view.outputs[0].name: (0, scale - 1)}
    constants = view.constants
    for node in reversed(view.nodes):
        interval = needed.get(node.output[0])
        if interval is None:
            continue
        # What is pooled is gathered pixel by pixel: each needs its own surroundings.
        low, high = (0, 0) if is_global_pool(node) else _read_by(node, constants, *interval)
        for name in set(node.input) - set(constants):
            before = needed.get(name, (low, high))
            needed[name] = (min(low, before[0]), max(high, before[1]))
    intervals = [needed[value.name] for value in view.inputs if value.name in needed]
    return max(max(-low, high) for low, high in intervals)


def _read_by(
    node: onnx.NodeProto, constants: dict[str, NDArray[Any]], low: int, high: int
) -> tuple[int, int]:
    """First and last position in a node's input that output positions low … high read."""
    attributes = attributes_of(node)
    if node.op_type == "DepthToSpace":
        return low // attributes["blocksize"], high // attributes["blocksize"]
    if node.op_type == "Slice":
        start = int(constants[node.input[1]][0])
        return low + start, high + start
    if node.op_type == "Pad":
        # begin and end of N, C, H, W
        padding = int(constants[node.input[1]][2])
        return low - padding, high - padding
    if not node.op_type.startswith("Conv"):
        return low, high
    reach = max(attributes["kernel_shape"]) - 1
    padding = attributes.get("pads", [0])[0]
    stride = attributes.get("strides", [1])[0]
    if node.op_type == "Conv":
        return stride * low - padding, stride * high + reach - padding
    return -((reach - padding - low) // stride), (high + padding) // stride
