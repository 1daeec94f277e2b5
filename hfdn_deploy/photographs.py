"""Real photographs for parity, demo and tests: those that scikit-image carries."""

from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfdn_deploy.errors import InputError

# Those that lie in the package itself; the others would be downloaded.
NAMES = ("astronaut", "camera", "chelsea", "coffee", "rocket")


def photographs() -> dict[str, NDArray[np.uint8]]:
    """8-bit photographs by name: (H, W, 3) RGB, `camera` (H, W) grey.

    Raises:
        InputError: scikit-image is not installed.
    """
    try:
        data: Any = import_module("skimage.data")
    except ImportError:
        raise InputError(
            "the photographs come with scikit-image: pip install scikit-image"
        ) from None
    return {name: getattr(data, name)() for name in NAMES}
