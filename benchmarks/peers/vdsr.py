"""VDSR (Kim et al., CVPR 2016): twenty 3×3 convolutions on the upscaled image."""

from torch import Tensor, nn
from torch.nn import functional as F

from hfdn_deploy.network import BicubicUpscale, conv3x3

WIDTH = 64
LAYERS = 20


class VDSR(nn.Module):
    """Luma (N, 1, H, W) to (N, 1, sH, sW): a residual added to the bicubic image."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.base = BicubicUpscale(scale)
        self.first = conv3x3(1, WIDTH)
        self.middle = nn.ModuleList(conv3x3(WIDTH, WIDTH) for _ in range(LAYERS - 2))
        self.last = conv3x3(WIDTH, 1)

    def forward(self, lr: Tensor) -> Tensor:
        image: Tensor = self.base(lr)
        x = F.relu(self.first(image))
        for conv in self.middle:
            x = F.relu(conv(x))
        out: Tensor = image + self.last(x)
        return out
