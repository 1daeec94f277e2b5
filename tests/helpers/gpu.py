"""The GPU of the tests in tests/gpu: a real GPU if there is one, or else a simulated one."""

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from hfdn_deploy.backends import why_unavailable
from hfdn_deploy.bench import photographs
from hfdn_deploy.cuda import Device
from hfdn_deploy.engines import FLAVOURS
from hfdn_deploy.errors import BackendError


@cache
def real_gpu() -> Device | None:
    """Return the GPU of this machine, if there is one."""
    try:
        return Device.current()
    except BackendError:
        return None


# Small for a simulated GPU, which computes on the CPU.
SIZE = (180, 320) if real_gpu() else (18, 32)


def luma(height: int = SIZE[0], width: int = SIZE[1]) -> NDArray[np.float32]:
    """Return a crop of a photograph, (height, width) in [0, 1]."""
    return _camera()[:height, :width].copy()


@cache
def _camera() -> NDArray[np.float32]:
    grey: NDArray[np.float32] = photographs()["camera"].astype(np.float32) / np.float32(255)
    return grey


def skip_without(backend: str) -> None:
    """Skip a test of a backend that is not installed or has no kernels for this GPU.

    Engines are never skipped on a GPU for which the flavour can build them.
    """
    reason = why_unavailable(backend)
    gpu = real_gpu()
    if reason and (backend != "tensorrt" or (gpu and gpu.target not in FLAVOURS["rtx"].targets)):
        pytest.skip(str(reason))
