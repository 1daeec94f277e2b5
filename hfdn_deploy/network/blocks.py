"""The building blocks of HFDN. All tensors are (N, C, H, W) floats."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hfdn_deploy.images import cubic

WIDTH = 48
HEAD_WIDTH = 16
SLOPE = 0.05

# Kernel, stride and padding of the transposed convolution, by scale.
DECONVOLUTION = {2: (4, 2, 1), 3: (5, 3, 1), 4: (4, 4, 0)}


def activate(x: Tensor) -> Tensor:
    """Apply LeakyReLU with the network's slope."""
    return F.leaky_relu(x, SLOPE)


def conv3x3(inputs: int, outputs: int) -> nn.Conv2d:
    """Return a 3×3 convolution that keeps height and width."""
    return nn.Conv2d(inputs, outputs, 3, padding=1)


class AdaptiveDenseUnit(nn.Module):
    """Three 3×3 convolutions and a 1×1 fusion, densely connected (ADU).

    `dense` is "adaptive" (each concatenated input has a learnable scalar weight), "concat"
    (concatenation without weights) or "plain" (a chain without concatenation).
    """

    def __init__(self, dense: str) -> None:
        super().__init__()
        growth = [1, 1, 1, 1] if dense == "plain" else [1, 2, 3, 4]
        self.dense = dense
        self.convs = nn.ModuleList(conv3x3(n * WIDTH, WIDTH) for n in growth[:3])
        self.fusion = nn.Conv2d(growth[3] * WIDTH, WIDTH, 1)
        if dense == "adaptive":
            self.weights = nn.ParameterList(torch.ones(n) for n in growth[1:])

    def _gather(self, features: list[Tensor]) -> Tensor:
        """Return the input of the next convolution from `features`, newest last."""
        if self.dense == "plain" or len(features) == 1:
            return features[-1]
        if self.dense == "adaptive":
            weights = self.weights[len(features) - 2].unbind()
            features = [w * f for w, f in zip(weights, features, strict=True)]
        return torch.cat(features, 1)

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for conv in self.convs:
            features.append(activate(conv(self._gather(features))))
        fused: Tensor = self.fusion(self._gather(features))
        return fused


class EnhancementUnit(nn.Module):
    """Two 3×3 convolutions and a 1×1 fusion, added to the input (EU)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv3x3(WIDTH, WIDTH)
        self.conv2 = conv3x3(WIDTH, WIDTH)
        self.fusion = nn.Conv2d(WIDTH, WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.fusion(activate(self.conv2(activate(self.conv1(x)))))
        return out


class HierarchicalFuseModule(nn.Module):
    """An adaptive dense unit followed by an enhancement unit (HFM)."""

    def __init__(self, dense: str) -> None:
        super().__init__()
        self.adu = AdaptiveDenseUnit(dense)
        self.eu = EnhancementUnit()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.eu(self.adu(x))
        return out


class ChannelAttention(nn.Module):
    """Scaling of each channel by a sigmoid of all global means (squeeze and excitation)."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.squeeze = nn.Conv2d(WIDTH, HEAD_WIDTH, 1)
        self.excite = nn.Conv2d(HEAD_WIDTH, WIDTH, 1)

    def forward(self, x: Tensor, mean: Tensor | None = None) -> Tensor:
        """Scale the channels; `mean` (N, 48, 1, 1) is the whole image's if x is a tile of it."""
        pooled = self.pool(x) if mean is None else mean
        gate = torch.sigmoid(self.excite(activate(self.squeeze(pooled))))
        return x * gate


class SpatialAttention(nn.Module):
    """Scaling of each pixel by a sigmoid of a 3×3 convolution over all channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv3x3(WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.conv(x))


class ReconstructionHead(nn.Module):
    """Reconstruction of an image (N, 1, sH, sW) from the features (N, 48, H, W) of a level."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        kernel, stride, padding = DECONVOLUTION[scale]
        self.deconv = nn.ConvTranspose2d(WIDTH, WIDTH, kernel, stride, padding)
        self.conv1 = conv3x3(WIDTH, WIDTH)
        self.conv2 = conv3x3(WIDTH, HEAD_WIDTH)
        self.last = conv3x3(HEAD_WIDTH, 1)

    def features(self, x: Tensor) -> Tensor:
        """Return the input of the last convolution, (N, 16, sH, sW)."""
        return activate(self.conv2(activate(self.conv1(activate(self.deconv(x))))))

    def forward(self, x: Tensor) -> Tensor:
        image: Tensor = self.last(self.features(x))
        return image


class BicubicUpscale(nn.Module):
    """Bicubic upscaling (a = -0.5, replicated edges) of (N, 1, H, W) by a whole factor.

    Each of the scale² output phases is a fixed 5×5 filter of the input, so the whole is one
    convolution and a depth-to-space. Source of the kernel: `hfdn_deploy.images.cubic`.
    """

    kernel: Tensor

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        taps = torch.arange(-2, 3, dtype=torch.float64)
        phases = (torch.arange(scale, dtype=torch.float64) + 0.5) / scale - 0.5
        row = torch.from_numpy(cubic((phases[:, None] - taps).numpy()))
        kernel = torch.einsum("ay,bx->abyx", row, row).reshape(scale * scale, 1, 5, 5)
        self.register_buffer("kernel", kernel.float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        device = x.device.type
        if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
            # The base is most of the image; bfloat16 would cost it half a level of 255.
            with torch.autocast(device, enabled=False):
                return self.forward(x)
        padded = F.pad(x, (2, 2, 2, 2), mode="replicate")
        return F.pixel_shuffle(F.conv2d(padded, self.kernel), self.scale)
