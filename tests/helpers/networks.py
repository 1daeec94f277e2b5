"""Networks with random weights."""

import torch

from hfdn_deploy.network import HFDN, HFDNConfig


def make_network(scale: int = 4, seed: int = 0, **options: str) -> HFDN:
    """A network that passes signals on, with no trivial adaptive weight."""
    torch.manual_seed(seed)
    network = HFDN(HFDNConfig(scale, **options)).eval().requires_grad_(False)
    for name, parameter in network.named_parameters():
        if parameter.ndim == 4:
            parameter *= 2
        if "weights" in name:
            parameter += torch.empty_like(parameter).uniform_(-0.5, 1.0)
    return network
