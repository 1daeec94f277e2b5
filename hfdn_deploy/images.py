"""Image files to arrays and back: RGB order, dtype and channels as stored."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hfdn_deploy.errors import InputError
from hfdn_deploy.files import replaced

Image = NDArray[np.integer[Any] | np.floating[Any]]

DTYPES = ("uint8", "uint16", "float32")
IMAGE_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"))

# A JPEG has no alpha, and this mode applies the orientation its camera noted.
_JPEG_FLAGS = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH
_JPEG_MAGIC = b"\xff\xd8\xff"

_DEEP = {"uint16": (".png", ".tif", ".tiff"), "float32": (".tif", ".tiff")}
_WITH_ALPHA = (".png", ".webp", ".tif", ".tiff")

_TO_RGB = {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}


def read_image(path: Path) -> Image:
    """Read an image as (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA; uint8, uint16 or float32.

    Raises:
        InputError: missing, empty, truncated or no image that OpenCV decodes.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None
    return decode_image(data, str(path))


def decode_image(data: bytes, name: str) -> Image:
    """As `read_image`, from the bytes of a file; `name` stands in the errors.

    Raises:
        InputError: empty, truncated or no image that OpenCV decodes.
    """
    if not data:
        raise InputError(f"{name} is empty; it should be an image.")
    flags = _JPEG_FLAGS if data.startswith(_JPEG_MAGIC) else cv2.IMREAD_UNCHANGED
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise InputError(f"{name} cannot be decoded: {error.err}.") from None
    if image is None:
        raise InputError(
            f"{name} is no image that can be decoded: another kind of file, truncated or too large."
        )
    if image.dtype.name not in DTYPES:
        raise InputError(f"{name} holds {image.dtype} pixels; convert it to 8 or 16 bits.")
    return np.asarray(_swap_red_and_blue(image))


def check_format(path: Path) -> None:
    """Refuse a path whose suffix names no image format that can be written.

    Raises:
        InputError: so it is.
    """
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        known = ", ".join(sorted(IMAGE_SUFFIXES))
        raise InputError(f"{path}: no image format {path.suffix!r}; choose one of {known}.")


def write_image(path: Path, image: Image) -> None:
    """Write (H, W), (H, W, 3) RGB or (H, W, 4) RGBA in the format that the suffix names.

    Raises:
        InputError: the format is unknown, cannot hold this dtype or alpha, or the disk refuses.
    """
    check_format(path)
    data = encode_image(image, path.suffix.lower(), str(path))
    with replaced(path) as temporary:
        temporary.write_bytes(data)


def encode_image(image: Image, suffix: str, name: str) -> bytes:
    """The bytes that `write_image` writes; `suffix` is one of IMAGE_SUFFIXES.

    Raises:
        InputError: the format cannot hold this dtype, alpha or size; the message says `name`.
    """
    if image.dtype != np.uint8 and suffix not in _DEEP.get(image.dtype.name, ()):
        fitting = " or ".join(_DEEP.get(image.dtype.name, ("8 bits",)))
        raise InputError(f"{name}: {suffix} cannot hold {image.dtype} pixels; choose {fitting}.")
    if image.ndim == 3 and image.shape[2] == 4 and suffix not in _WITH_ALPHA:
        raise InputError(f"{name}: {suffix} cannot hold transparency; choose .png, .webp or .tif.")
    try:
        done, data = cv2.imencode(suffix, _swap_red_and_blue(image))
    except cv2.error:
        done = False
    if not done:
        size = f"{image.shape[1]}×{image.shape[0]}"
        raise InputError(f"{name}: {suffix} cannot hold an image of {size}; choose .png or .tif.")
    return data.tobytes()


def _swap_red_and_blue(image: Image) -> Image:
    if image.ndim == 3 and image.shape[2] in _TO_RGB:
        return np.asarray(cv2.cvtColor(image, _TO_RGB[image.shape[2]]))
    return image
