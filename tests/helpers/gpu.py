"""What the tests in tests/gpu run on: a real GPU where there is one, else a simulated one."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from hfdn_deploy.bench import photographs
from hfdn_deploy.cuda import Device
from hfdn_deploy.errors import BackendError


@cache
def real_gpu() -> Device | None:
    """Return the GPU of this machine, if there is one."""
    try:
        return Device.current()
    except BackendError:
        return None


# A simulated GPU computes on the CPU.
SIZE = (180, 320) if real_gpu() else (18, 32)


def luma(height: int = SIZE[0], width: int = SIZE[1]) -> NDArray[np.float32]:
    """Return a crop of a photograph, (height, width) in [0, 1]."""
    grey: NDArray[np.float32] = photographs()["camera"][:height, :width].astype(np.float32)
    return grey / np.float32(255)
