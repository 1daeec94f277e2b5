"""The network of a bundle, from the weights of its fp32 graph."""

from dataclasses import replace

import onnx
import torch
from onnx import numpy_helper

from hfdn_deploy.bundle import Bundle
from hfdn_deploy.errors import BundleError, CheckpointError
from hfdn_deploy.network.blocks import HEAD_WIDTH
from hfdn_deploy.network.config import HFDNConfig
from hfdn_deploy.network.hfdn import HFDN

# Tensors that the graph has once, and the network once for each head.
_LAST = ("last.weight", "last.bias")


def load_bundle(bundle: Bundle) -> HFDN:
    """Return the network of a bundle in evaluation mode on the CPU.

    It computes the same function as the checkpoint's network, but its adaptive weights are folded
    into the convolutions (see `export.rewrites`), and the first head has the summed bias of all.

    Raises:
        BundleError: the bundle has no fp32 graph, or a graph of another network.
        GateError: the graph did not pass its gates.
    """
    model = onnx.load_model_from_string(bundle.read_model("fp32"))
    tensors = {x.name: torch.tensor(numpy_helper.to_array(x)) for x in model.graph.initializer}
    try:
        config = HFDNConfig.from_dict(bundle.manifest.configuration)
        if config.dense == "adaptive":
            config = replace(config, dense="concat")
        network = HFDN(config)
        weight, bias = (tensors[name] for name in _LAST)
        parts = zip(network.heads, torch.split(weight, HEAD_WIDTH, 1), strict=True)
        for place, (head, part) in enumerate(parts):
            tensors[f"heads.{head}.last.weight"] = part
            tensors[f"heads.{head}.last.bias"] = bias if place == 0 else torch.zeros_like(bias)
        # Other constants of the graph belong to no module.
        names = network.state_dict()
        network.load_state_dict({name: tensors[name] for name in names})
    except (CheckpointError, KeyError, ValueError, RuntimeError) as error:
        raise BundleError(
            f"{bundle.path} has no graph of an HFDN that PyTorch runs ({error}); export it again."
        ) from None
    return network.for_inference()
