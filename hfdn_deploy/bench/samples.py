"""Real photographs for parity, demo, benchmarks and tests: ours and those of scikit-image."""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfdn_deploy.bench.quality import PEAK, degrade, luma8, to_levels
from hfdn_deploy.errors import InputError
from hfdn_deploy.images import Image, imresize, read_image

PHOTOGRAPH = Path(__file__).with_name("coffee.webp")
"""`coffee` of scikit-image, the default of `hfdn bench`; coffee.txt names its source."""

# Included in scikit-image itself; others would be downloaded.
NAMES = ("astronaut", "camera", "chelsea", "coffee", "rocket")
# INT8 is calibrated with the former and judged on the latter, which include a scanned page, where
# clipped ranges show best, and a brick wall, where small errors do.
CALIBRATION_NAMES = (
    "coins", "grass", "gravel", "hubble_deep_field", "immunohistochemistry", "moon", "retina",
    "text",
)  # fmt: skip
HELD_OUT_NAMES = (*NAMES, "brick", "page")
SHARP_NAMES = (*CALIBRATION_NAMES, *HELD_OUT_NAMES, "cell", "microaneurysms", "stereo_motorcycle")


def photographs() -> dict[str, NDArray[np.uint8]]:
    """Return 8-bit photographs by name: (H, W, 3) RGB, `camera` (H, W) grey.

    Raises:
        InputError: scikit-image is not installed.
    """
    return _load(NAMES)


def calibration_photographs() -> tuple[dict[str, NDArray[np.uint8]], dict[str, NDArray[np.uint8]]]:
    """Return images to calibrate INT8 graphs, and images to judge them; see `photographs`.

    Raises:
        InputError: scikit-image is not installed.
    """
    return _load(CALIBRATION_NAMES), _load(HELD_OUT_NAMES)


def sharp_photographs() -> dict[str, NDArray[np.uint8]]:
    """Return all photographs, scans and micrographs of scikit-image; see `photographs`.

    Raises:
        InputError: scikit-image is not installed.
    """
    return _load(SHARP_NAMES)


@dataclass(frozen=True)
class ImagePair:
    """A photograph to upscale, and its original."""

    original: NDArray[np.uint8]
    """Luma (sH, sW)."""
    luma: NDArray[np.float32]
    """Input of the network: (H, W) in [0, 1]."""
    image: NDArray[np.uint8]
    """Input of a user: (H, W, 3) RGB."""


def load_original(path: Path | None) -> NDArray[np.uint8]:
    """Return the user's image, or our photograph, as (H, W, 3) RGB or (H, W) grey.

    Raises:
        InputError: the file is not an 8-bit image.
    """
    image: Image = read_image(path or PHOTOGRAPH)
    luma8(image)
    return image[..., :3].astype(np.uint8) if image.ndim == 3 else image.astype(np.uint8)


def make_pair(photograph: NDArray[np.uint8], size: tuple[int, int], scale: int) -> ImagePair:
    """Crop a photograph, mirrored at its edges if it is too small, to sW × sH, and degrade it.

    Args:
        photograph: (H, W) or (H, W, 3).
        size: width and height of the low-resolution image.
        scale: upscaling factor.
    """
    colour = photograph if photograph.ndim == 3 else np.dstack([photograph] * 3)
    width, height = (scale * side for side in size)
    missing = [max(0, wanted - side) for wanted, side in zip((height, width), colour.shape)]  # noqa: B905
    hr = np.pad(colour, [(0, missing[0]), (0, missing[1]), (0, 0)], mode="symmetric")
    hr = hr[:height, :width]
    original = luma8(hr)
    small = np.dstack([imresize(hr[..., i], 1 / scale) for i in range(3)])
    luma = np.clip(degrade(original, scale) / PEAK, 0, 1).astype(np.float32)
    return ImagePair(original, luma, to_levels(small))


def _load(names: tuple[str, ...]) -> dict[str, NDArray[np.uint8]]:
    try:
        data: Any = import_module("skimage.data")
    except ImportError:
        raise InputError(
            "the photographs are in scikit-image, which is not installed: pip install scikit-image"
        ) from None
    loaded = {name: getattr(data, name)() for name in names}
    # A stereo pair is a tuple; keep the left image.
    return {name: x[0] if isinstance(x, tuple) else x for name, x in loaded.items()}
