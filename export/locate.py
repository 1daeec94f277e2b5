"""Search for the node that makes a graph's outputs depart."""

import numpy as np
import onnx
import torch

from export.quantization import DIALECTS
from export.sessions import Array, open_outputs, run_node
from export.subpixel import to_subpixels
from hfdn_deploy.graph import GraphView
from hfdn_deploy.network import HFDN

# An fp32 layer is wrong if it departs by more than this share of its largest value.
FP32_DEPARTURE = 1e-4

Departures = dict[str, float]
"""By node, in graph order, the departure of its output as a share of the output's size."""


def blame(departures: Departures, graph: str) -> str:
    """Return the phrase that names the node to blame.

    In fp32 all nodes behind a wrong node depart, so the first is to blame. In lower precision every
    node departs a little from the exact result for its inputs, so the worst is to blame.
    """
    if graph == "fp32":
        named = next((n for n, d in departures.items() if not d <= FP32_DEPARTURE), None)
        if named is None:
            return f"first departing node: behind {list(departures)[-1]}"
        return (
            f"first departing node: {named} (off by {departures[named]:.2g} of its largest value)"
        )
    named = max(departures, key=lambda name: (np.isnan(departures[name]), departures[name]))
    return f"most departing node: {named} (off by {departures[named]:.2g} of its own size)"


def module_departures(model: onnx.ModelProto, network: HFDN, lr: Array) -> Departures:
    """Return how far each convolution departs from the PyTorch module of its name.

    Args:
        model: an fp32 graph; its convolutions bear the names of the network's modules.
        network: the network that the graph was made from.
        lr: the input (N, 1, H, W) to run both on.

    Returns:
        The largest absolute difference as a share of the largest value.
    """
    expected = _module_outputs(network, lr)
    names = [node.output[0] for node in model.graph.node if node.name in expected]
    outputs = open_outputs(model, names)(lr)
    return {
        name: float(np.abs(output - expected[name]).max())
        / max(float(np.abs(expected[name]).max()), 1e-6)
        for name, output in zip(names, outputs, strict=True)
    }


def node_departures(
    model: onnx.ModelProto, full: onnx.ModelProto, graph: str, lr: Array
) -> Departures:
    """Return how far each node departs from the fp32 node on the same inputs.

    Args:
        model: a graph of lower precision, with the tensor names of the fp32 graph.
        full: the fp32 graph.
        graph: name of the graph `model`, one of `hfdn_deploy.bundle.GRAPH_NAMES` or `DERIVED`.
        lr: the input (N, 1, H, W) to run both on.

    Returns:
        The root mean square of the difference as a share of that of the values.
    """
    if graph in DIALECTS and DIALECTS[graph].subpixel:
        full = to_subpixels(full)
    view, present = GraphView(full), GraphView(model).makers
    names = [node.output[0] for node in view.nodes if node.output[0] in present]
    got = dict(zip(names, open_outputs(model, names)(lr), strict=True))
    values = {view.inputs[0].name: lr, **view.constants}
    departures = {}
    for node in view.nodes:
        output = node.output[0]
        values[output] = run_node(node, [values[name] for name in node.input])
        if output in got:
            expected, values[output] = values[output], got[output].astype(np.float32)
            with np.errstate(invalid="ignore"):  # infinity minus infinity is a departure too
                error = _root_mean_square(values[output] - expected)
            departures[node.name] = error / max(_root_mean_square(expected), 1e-6)
    return departures


def _root_mean_square(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def _module_outputs(network: HFDN, lr: Array) -> dict[str, Array]:
    """Return the outputs of the network's convolutions by module name."""
    outputs: dict[str, Array] = {}
    handles = []
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):

            def keep(_: object, __: object, output: torch.Tensor, name: str = name) -> None:
                outputs[name] = output.numpy()

            handles.append(module.register_forward_hook(keep))
    try:
        with torch.inference_mode():
            network(torch.from_numpy(lr))
    finally:
        for handle in handles:
            handle.remove()
    return outputs
