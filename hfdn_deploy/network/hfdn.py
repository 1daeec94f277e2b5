"""HFDN: shallow features, three hierarchical fuse modules, attention, three reconstructions."""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from hfdn_deploy.network.blocks import (
    WIDTH,
    BicubicUpscale,
    ChannelAttention,
    HierarchicalFuseModule,
    ReconstructionHead,
    SpatialAttention,
    activate,
    conv3x3,
)
from hfdn_deploy.network.config import HFDNConfig

MODULES = 3


class HFDN(nn.Module):
    """The network of the ICIP 2020 paper, for luma (N, 1, H, W) in [0, 1].

    Every size from 1×1 up is valid. The output is (N, 1, scale·H, scale·W), not clipped.
    """

    def __init__(self, config: HFDNConfig) -> None:
        super().__init__()
        self.config = config
        self.shallow1 = conv3x3(1, WIDTH)
        self.shallow2 = conv3x3(WIDTH, WIDTH)
        self.hfms = nn.ModuleList(HierarchicalFuseModule(config.dense) for _ in range(MODULES))
        self.fusion = nn.Conv2d((MODULES + 1) * WIDTH, WIDTH, 1)
        attention: dict[str, nn.Module] = {}
        if "ca" in config.attention:
            attention["ca"] = ChannelAttention()
        if "sa" in config.attention:
            attention["sa"] = SpatialAttention()
        self.attention = nn.ModuleDict(attention)
        self.heads = nn.ModuleDict({x: ReconstructionHead(config.scale) for x in config.levels})
        self.base = BicubicUpscale(config.scale)

    def for_inference(self) -> Self:
        """Set evaluation mode, constant weights and the memory format channels last; return self.

        In this format, convolutions take 0.55 to 0.85 times as long on a CPU.
        """
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self.eval().requires_grad_(False)

    @property
    def ordered_heads(self) -> list[ReconstructionHead]:
        """The reconstruction heads, in the order of `config.levels`."""
        return [head for head in self.heads.values() if isinstance(head, ReconstructionHead)]

    def fused_features(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the features, shallow and of the three modules, and their fusion.

        Each is (N, 48, H, W). Channel attention pools the fusion.
        """
        features = [activate(self.shallow2(activate(self.shallow1(x))))]
        for hfm in self.hfms:
            features.append(hfm(features[-1]))
        return features, self.fusion(torch.cat(features, 1))

    def level_features(self, x: Tensor, mean: Tensor | None = None) -> list[Tensor]:
        """Return features (N, 48, H, W) of the supervised levels, in order of `config.levels`.

        Args:
            x: luma (N, 1, H, W).
            mean: mean (N, 48, 1, 1) of the fused features over the whole image, if x is a tile.
        """
        return self.attended(*self.fused_features(x), mean)

    def attended(
        self, features: Sequence[Tensor], fused: Tensor, mean: Tensor | None = None
    ) -> list[Tensor]:
        """Return `level_features` from `fused_features`, which may lack the last module's."""
        deep = fused
        if "ca" in self.attention:
            deep = self.attention["ca"](deep, mean)
        if "sa" in self.attention:
            deep = self.attention["sa"](deep)
        levels = {"s": features[1], "m": features[2], "d": deep + features[0]}
        return [levels[name] for name in self.config.levels]

    def forward_levels(self, x: Tensor, mean: Tensor | None = None) -> list[Tensor]:
        """Return the supervised images, each (N, 1, sH, sW): running sums on the bicubic base.

        Args as for `level_features`.
        """
        return self.reconstructed(x, self.level_features(x, mean))

    def reconstructed(self, x: Tensor, levels: Sequence[Tensor]) -> list[Tensor]:
        """Return `forward_levels` from `level_features`."""
        image = self.base(x)
        images = []
        for head, features in zip(self.ordered_heads, levels, strict=True):
            image = image + head(features)
            images.append(image)
        return images

    def forward(self, x: Tensor, mean: Tensor | None = None) -> Tensor:
        """Return the upscaled image (N, 1, sH, sW), the last of `forward_levels`."""
        return self.forward_levels(x, mean)[-1]
