"""Real photographs for parity, demo and tests: those that scikit-image carries."""

from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfdn_deploy.errors import InputError

# Those that lie in the package itself; the others would be downloaded.
NAMES = ("astronaut", "camera", "chelsea", "coffee", "rocket")
# INT8 is calibrated with the former and judged on the latter: nothing shows a clipped range like a
# scanned page, and small errors like a wall that the network restores well.
CALIBRATION_NAMES = (
    "coins", "grass", "gravel", "hubble_deep_field", "immunohistochemistry", "moon", "retina",
    "text",
)  # fmt: skip
HELD_OUT_NAMES = (*NAMES, "brick", "page")


def photographs() -> dict[str, NDArray[np.uint8]]:
    """8-bit photographs by name: (H, W, 3) RGB, `camera` (H, W) grey.

    Raises:
        InputError: scikit-image is not installed.
    """
    return _load(NAMES)


def calibration_photographs() -> tuple[dict[str, NDArray[np.uint8]], dict[str, NDArray[np.uint8]]]:
    """Pictures to calibrate INT8 graphs with, and pictures to judge that on; as above.

    Raises:
        InputError: scikit-image is not installed.
    """
    return _load(CALIBRATION_NAMES), _load(HELD_OUT_NAMES)


def _load(names: tuple[str, ...]) -> dict[str, NDArray[np.uint8]]:
    try:
        data: Any = import_module("skimage.data")
    except ImportError:
        raise InputError(
            "the photographs come with scikit-image: pip install scikit-image"
        ) from None
    return {name: getattr(data, name)() for name in names}
