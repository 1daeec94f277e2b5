"""Writing of arrays as image files: a file is complete or absent."""

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
    """Refuse a path whose suffix does not name a format that can be written.

    Raises:
        InputError: the format is unknown, or this installation cannot write it.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        known = ", ".join(FORMATS)
        raise InputError(f"{path}: unknown image format {path.suffix!r}; choose one of {known}.")
    if reason := FORMATS[suffix].why_missing():
        raise InputError(f"{path}: {reason}.")


def check_fits(path: Path, width: int, height: int, channels: int, dtype: str) -> None:
    """Refuse a path whose format cannot hold such an image, before the image is made.

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
        advice = kind.if_too_large if holders else "request a smaller image"
        raise InputError(f"{path}: {what} hold an image of {width}×{height}; {advice}.")


def writes_bands(path: Path) -> bool:
    """Return whether `write_image` writes an image band by band, without holding it."""
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
        path: the file; missing folders are created.
        image: (H, W) or (H, W, 1) grey, (H, W, 2) grey and alpha, (H, W, 3) RGB or (H, W, 4)
            RGBA; uint8, uint16 (PNG, TIFF) or float32 (TIFF). WebP has no grey, and AVIF and
            16-bit PNG have no grey with alpha; they store colour instead. A `Banded` image is
            never held whole for PNG and TIFF; errors of its bands are propagated.
        metadata: of the source image; sizes in it are updated.
        quality: 1 to 100 for JPEG (default 95), AVIF (default 90) and WebP (default lossless).
        overwrite: replace an existing file; if False, refuse, even if it appears meanwhile.

    Raises:
        InputError: the format is unknown or cannot hold this dtype, alpha or size; the disk
            reports an error; or the file exists and must not be replaced.
    """
    with replaced(path, overwrite=overwrite) as temporary, temporary.open("wb") as file:
        _write(file, path, image, metadata, quality)


def encode_image(
    image: Image | Banded,
    path: Path,
    metadata: Metadata | None = None,
    quality: int | None = None,
) -> bytes:
    """Return the bytes that `write_image` writes; `path` names the format and the file in errors.

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
    """Turn an encoder's exceptions in the block into InputError; errors of the disk stay."""
    try:
        yield
    except HFDNError:
        raise
    except Exception as error:  # Pillow's encoders have no common exception
        if isinstance(error, OSError) and error.errno:
            raise
        reason = str(error) or type(error).__name__
        raise InputError(
            f"{path}: {path.suffix} cannot hold this image of {width}×{height} ({reason}); "
            "choose .png or .tif."
        ) from error


def _as_written(kind: type[Format], image: Banded) -> Banded:
    """Return the image as the file will hold it: grey becomes colour if the format needs it."""
    height, width, channels = size_of(image)
    if channels > 2 or not kind.becomes_colour(channels, image.dtype.name):
        return image
    coloured = (_coloured(band.reshape(*band.shape[:2], channels)) for band in image.rows())
    return Banded((height, width, channels + 2), image.dtype, coloured)


def _coloured(pixels: Pixels) -> Pixels:
    grey, alpha = np.split(pixels, [1], axis=2)
    return np.concatenate([grey, grey, grey, alpha], axis=2)
