"""Arrays to image files, whole or not at all."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from hfdn_deploy.atomic import replaced
from hfdn_deploy.errors import HFDNError, InputError
from hfdn_deploy.images.fitting import fitting
from hfdn_deploy.images.format import Format
from hfdn_deploy.images.metadata import Metadata, for_size
from hfdn_deploy.images.registry import ALL_FORMATS, FORMATS
from hfdn_deploy.images.rows import Banded, Image, Pixels, size_of


def check_format(path: Path) -> None:
    """Refuse a path whose suffix names no image format that can be written.

    Raises:
        InputError: the format is unknown, or missing from this installation.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        known = ", ".join(FORMATS)
        raise InputError(f"{path}: no image format {path.suffix!r}; choose one of {known}.")
    if reason := FORMATS[suffix].why_missing():
        raise InputError(f"{path}: {reason}.")


def check_fits(path: Path, width: int, height: int, channels: int, dtype: str) -> None:
    """Refuse a path whose format cannot hold such an image, before one is made.

    Raises:
        InputError: the format is unknown, or cannot hold this dtype, alpha or size.
    """
    check_format(path)
    suffix = path.suffix.lower()
    kind = FORMATS[suffix]
    if dtype not in kind.dtypes:
        able = [other.suffixes[0] for other in ALL_FORMATS if dtype in other.dtypes]
        advice = f"choose {' or '.join(able)}" if able else "convert them to 8 bits"
        raise InputError(f"{path}: {suffix} cannot hold {dtype} pixels; {advice}.")
    if channels in (2, 4) and not kind.alpha:
        raise InputError(f"{path}: {suffix} cannot hold transparency; choose .png, .webp or .tif.")
    size = width * height * channels * np.dtype(dtype).itemsize
    holders = [k for k in ALL_FORMATS if max(width, height) <= k.max_side and size <= k.max_bytes]
    if kind not in holders:
        what = f"{suffix} cannot" if holders else "no format can"
        advice = kind.if_too_large if holders else "ask for less"
        raise InputError(f"{path}: {what} hold an image of {width}×{height}; {advice}.")


def writes_bands(path: Path) -> bool:
    """Whether `write_image` writes an image that comes in bands without holding it."""
    return FORMATS[path.suffix.lower()].banded


def write_image(
    path: Path,
    image: Image | Banded,
    metadata: Metadata | None = None,
    quality: int | None = None,
    *,
    overwrite: bool = True,
) -> None:
    """Write an image in the format that the suffix names.

    Args:
        path: the file; missing folders are made.
        image: (H, W) or (H, W, 1) grey, (H, W, 2) grey and alpha, (H, W, 3) RGB or (H, W, 4)
            RGBA; uint8, uint16 (PNG, TIFF) or float32 (TIFF). WebP knows no grey and AVIF and
            16-bit PNG no grey with alpha: there they become colour. One that comes in bands is
            never held as a whole for PNG and TIFF; what its bands raise comes through.
        metadata: of the picture that this one was made from; its size is brought up to date.
        quality: 1 to 100 for JPEG (default 95), AVIF (default 90) and WebP (default lossless).
        overwrite: replace a file that is there; otherwise refuse, also if it appears meanwhile.

    Raises:
        InputError: the format is unknown, cannot hold this dtype, alpha or size, the disk
            refuses, or a file is there that may not be replaced.
    """
    with replaced(path, overwrite=overwrite) as temporary, temporary.open("wb") as file:
        _write(file, path, image, metadata, quality)


def encode_image(
    image: Image | Banded,
    path: Path,
    metadata: Metadata | None = None,
    quality: int | None = None,
) -> bytes:
    """The bytes that `write_image` writes; `path` is for the format and for errors.

    Raises:
        InputError: the format is unknown, or cannot hold this dtype, alpha or size.
    """
    file = io.BytesIO()
    _write(file, path, image, metadata, quality)
    return file.getvalue()


def _write(
    file: BinaryIO,
    path: Path,
    image: Image | Banded,
    metadata: Metadata | None,
    quality: int | None,
) -> None:
    if not isinstance(image, Banded):
        image = Banded(image.shape, image.dtype, iter([image]))
    height, width, channels = size_of(image)
    check_fits(path, width, height, channels, image.dtype.name)
    flat = (band.reshape(-1, width) if channels == 1 else band for band in image.bands)
    shape = (height, width) if channels == 1 else (height, width, channels)
    kind = FORMATS[path.suffix.lower()]
    written = _as_written(kind, Banded(shape, image.dtype.newbyteorder("="), flat))
    metadata = fitting(path, kind, written, for_size(metadata or Metadata(), width, height))
    with refusing(path, width, height):
        kind.write(file, written, metadata, quality)


@contextmanager
def refusing(path: Path, width: int, height: int) -> Iterator[None]:
    """Have whatever an encoder raises in the block be an InputError; the disk's stay."""
    try:
        yield
    except HFDNError:
        raise
    except Exception as error:  # Pillow's encoders share no exception
        if isinstance(error, OSError) and error.errno:
            raise
        reason = str(error) or type(error).__name__
        raise InputError(
            f"{path}: {path.suffix} cannot hold this image of {width}×{height} ({reason}); "
            "choose .png or .tif."
        ) from error


def _as_written(kind: type[Format], image: Banded) -> Banded:
    """An image with the channels that the file will have: grey becomes colour where it must."""
    height, width, channels = size_of(image)
    if channels > 2 or not kind.becomes_colour(channels, image.dtype.name):
        return image
    coloured = (_coloured(band.reshape(*band.shape[:2], channels)) for band in image.rows())
    return Banded((height, width, channels + 2), image.dtype, coloured)


def _coloured(pixels: Pixels) -> Pixels:
    grey, alpha = np.split(pixels, [1], axis=2)
    return np.concatenate([grey, grey, grey, alpha], axis=2)
