"""The weights that a run starts from."""

import logging
from dataclasses import replace
from pathlib import Path

import torch

from hfdn_deploy.errors import CheckpointError
from hfdn_deploy.network import HFDN, HFDNConfig, load_checkpoint

CHECKPOINTS = Path(__file__).parents[1] / "checkpoints"


def initial_network(scale: int, init: Path | None, seed: int) -> HFDN:
    """Return a network with random weights, or with the weights of `init`.

    If the scale of `init` differs, its deconvolutions are not used.

    Raises:
        CheckpointError: `init` is not a full HFDN.
    """
    torch.manual_seed(seed)
    network = HFDN(HFDNConfig(scale))
    if init:
        source = load_checkpoint(init)
        weights = source.state_dict()
        if replace(source.config, scale=scale) != network.config:
            raise CheckpointError(f"{init} is an ablated HFDN; start from a full one.")
        if source.config.scale != scale:
            # At another stride a deconvolution means something else, even if the shapes agree.
            weights = {name: w for name, w in weights.items() if "deconv" not in name}
        network.load_state_dict(weights, strict=False)
        logging.info(
            "loaded %d of %d tensors from %s", len(weights), len(network.state_dict()), init
        )
    return network


def newest_checkpoint(scale: int, folder: Path = CHECKPOINTS) -> Path:
    """Return the newest weights of a scale: those in `next`, or else the shipped ones."""
    name = f"hfdn_x{scale}.safetensors"
    trained = folder / "next" / name
    return trained if trained.exists() else folder / name
