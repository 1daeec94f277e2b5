"""Networks with random weights."""

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from hfdn_deploy.network import HFDN


def make_network(scale: int = 4, seed: int = 0, **options: Any) -> "HFDN":
    """Return a network with non-vanishing signals and no trivial adaptive weight.

    `options` are fields of `HFDNConfig`.
    """
    pytest.importorskip("torch", exc_type=ModuleNotFoundError)
    import torch

    from hfdn_deploy.network import HFDN, HFDNConfig

    torch.manual_seed(seed)
    network = HFDN(HFDNConfig(scale, **options)).eval().requires_grad_(False)
    for name, parameter in network.named_parameters():
        if parameter.ndim == 4:
            parameter.mul_(2)
        if "weights" in name:
            parameter.add_(torch.empty_like(parameter).uniform_(-0.5, 1.0))
    return network
