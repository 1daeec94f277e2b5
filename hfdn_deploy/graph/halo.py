"""The halo of a graph: how far around a pixel it reads."""

from typing import Any

import onnx
from numpy.typing import NDArray

from hfdn_deploy.errors import BundleError
from hfdn_deploy.graph.parts import is_global_pool
from hfdn_deploy.graph.view import GraphView, attributes_of


def halo_of(model: onnx.ModelProto, scale: int) -> int:
    """Return how many input pixels around a pixel affect its output, global pooling aside.

    The halo also covers what is pooled at that pixel, so the same tiles serve to gather the
    statistics. It is found by walking the graph backwards from the `scale` output pixels of one
    input pixel, with the interval of positions (along one axis) that they need of each tensor.

    Raises:
        BundleError: the graph has operators that are used differently than in the network.
    """
    try:
        return _walked(model, scale)
    except Exception as error:  # missing or odd attributes and constants raise various types
        raise BundleError(
            f"the halo of the graph cannot be determined ({error!r}); export the bundle again."
        ) from None


def _walked(model: onnx.ModelProto, scale: int) -> int:
    view = GraphView(model)
    needed = {view.outputs[0].name: (0, scale - 1)}
    constants = view.constants
    for node in reversed(view.nodes):
        interval = needed.get(node.output[0])
        if interval is None:
            continue
        # Pooled values are gathered pixel by pixel, and each pixel needs its own surroundings.
        low, high = (0, 0) if is_global_pool(node) else _read_by(node, constants, *interval)
        for name in set(node.input) - set(constants):
            before = needed.get(name, (low, high))
            needed[name] = (min(low, before[0]), max(high, before[1]))
    intervals = [needed[value.name] for value in view.inputs if value.name in needed]
    return max(max(-low, high) for low, high in intervals)


def _read_by(
    node: onnx.NodeProto, constants: dict[str, NDArray[Any]], low: int, high: int
) -> tuple[int, int]:
    """Return the first and last input position that a node's outputs at low … high read."""
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
