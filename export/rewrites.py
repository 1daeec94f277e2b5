"""Exact rewrites of the network, done in PyTorch before the graph is traced."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from hfdn_deploy.network import HEAD_WIDTH, HFDN, WIDTH, AdaptiveDenseUnit, conv3x3


def fold_adaptive_weights(network: HFDN) -> HFDN:
    """Return the same function with each adaptive weight folded into the convolution behind it.

    conv(cat(w₁x₁, w₂x₂)) = conv'(cat(x₁, x₂)), where conv' has its i-th input slice scaled
    by wᵢ. Module names stay as they are.
    """
    if network.config.dense != "adaptive":
        return network
    state = {k: v.clone() for k, v in network.state_dict().items()}
    for name, unit in network.named_modules():
        if not isinstance(unit, AdaptiveDenseUnit):
            continue
        followers = [f"{name}.convs.1", f"{name}.convs.2", f"{name}.fusion"]
        for i, follower in enumerate(followers):
            factors = state.pop(f"{name}.weights.{i}").repeat_interleave(WIDTH)
            state[f"{follower}.weight"] *= factors.view(1, -1, 1, 1)
    folded = HFDN(replace(network.config, dense="concat"))
    folded.load_state_dict(state)
    return folded.eval().requires_grad_(False)


class DeployHFDN(nn.Module):
    """HFDN with folded weights and one last convolution, as it is exported.

    The heads end in 16→1 convolutions whose results are summed, which equals one convolution over
    the concatenation of their inputs, with the sum of their biases.
    """

    def __init__(self, network: HFDN) -> None:
        super().__init__()
        self.network = fold_adaptive_weights(network)
        lasts = [head.last for head in self.network.ordered_heads]
        self.last = conv3x3(HEAD_WIDTH * len(lasts), 1)
        weights = torch.cat([last.weight for last in lasts], 1)
        biases = torch.stack([last.bias for last in lasts if last.bias is not None]).sum(0)
        self.last.load_state_dict({"weight": weights, "bias": biases})
        self.eval().requires_grad_(False)
        # With channels last, the exporter writes the mean as a sum over a range of places.
        self.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]

    def forward(self, lr: Tensor) -> Tensor:
        levels = self.network.level_features(lr)
        heads = self.network.ordered_heads
        features = [head.features(x) for head, x in zip(heads, levels, strict=True)]
        image: Tensor = self.network.base(lr) + self.last(torch.cat(features, 1))
        return image
