"""What makes a training step faster on a CPU."""

import ctypes
import platform
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

# Parameters of glibc's mallopt, from malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
    """Let glibc reuse freed memory instead of returning it to the system, for this process.

    Otherwise every activation of a step is new memory, which the system maps page by page.
    """
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)  # never trim


def separate_bias(network: nn.Module) -> None:
    """Let transposed convolutions add their bias in an operation of its own.

    PyTorch sums the gradient of a bias inside a transposed convolution's backward pass twenty times
    more slowly than that of an addition. Copies of the network must be made before.
    """
    for module in network.modules():
        if isinstance(module, nn.ConvTranspose2d):
            module.forward = partial(_upscaled, module)  # type: ignore[method-assign]


def _upscaled(module: nn.ConvTranspose2d, x: Tensor) -> Tensor:
    assert module.bias is not None and not isinstance(module.padding, str)
    y = F.conv_transpose2d(x, module.weight, None, module.stride, module.padding)
    # In the precision of autocast; a bias in fp32 would widen the sum.
    return y + module.bias.to(y.dtype)[:, None, None]
