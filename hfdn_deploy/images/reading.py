"""Image files to arrays: what may be read, whole or in bands of rows."""

import errno
import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import psutil
from PIL.ImageFile import ImageFile

from hfdn_deploy.atomic import check_regular
from hfdn_deploy.errors import InputError
from hfdn_deploy.images import decoding, png, tiff
from hfdn_deploy.images.decoding import Header
from hfdn_deploy.images.encoding import FORMATS
from hfdn_deploy.images.rows import Image, Rows

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset(FORMATS)

# The most pixels that are read, whatever the memory: OpenCV's limit, too.
MAX_PIXELS = 2**30
# The decoder's copy, the array and one more when it is turned or its channels change.
_COPIES = 3

# What can be read a band of rows at a time.
_BANDS = {"PNG": png.bands, "TIFF": tiff.bands}


def find_images(folder: Path, recursive: bool = False) -> list[Path]:
    """The image files in a folder by their suffix, sorted; hidden ones are left out.

    Args:
        folder: one that does not exist holds no image.
        recursive: those in the folders below as well, but for hidden folders.
    """
    found = sorted(folder.rglob("*") if recursive else folder.glob("*"))
    return [
        path
        for path in found
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    ]


def read_header(path: Path) -> Header:
    """What an image file says about its picture, without decoding it.

    Raises:
        InputError: missing, empty, damaged, no picture that can be read, or too large.
    """
    with _opened(path) as (_, header, _):
        return header


def read_image(path: Path) -> Image:
    """Read an image, upright; uint8, uint16 or float32.

    Returns:
        (H, W) grey, (H, W, 2) grey and alpha, (H, W, 3) RGB or (H, W, 4) RGBA; palettes become
        RGB or RGBA. Of several pictures in a file it is the first.

    Raises:
        InputError: missing, empty, damaged, truncated, no picture that can be read (CMYK, signed
            numbers), or too large, which the header tells before anything is decoded.
    """
    with _opened(path) as opened:
        return _decode(opened, str(path))


def open_image(path: Path) -> Image | Rows:
    """As `read_image`, but the rows of a PNG or TIFF are read when they are wanted, if they can be.

    Whatever is turned or has transparency, an interlaced PNG and one with a palette or less than
    8 bits, and a TIFF of planes, of YCbCr that is not JPEG's, or of very large strips are read
    whole.

    Raises:
        InputError: as for `read_image`; of a file that is truncated or damaged, rows above that
            place may be had before.
    """
    with _opened(path) as opened:
        file, header, _ = opened
        if _in_bands(file, header) is None:
            return _decode(opened, str(path))
    _mention_others(header, str(path))
    shape = (header.height, header.width) + ((3,) if header.channels == 3 else ())
    return Rows(shape, np.dtype(header.dtype), partial(_bands, path, header))


def _in_bands(file: BinaryIO, header: Header) -> Iterator[Image] | None:
    """The pixels in bands of rows; None if they cannot be had so. The header is of this file."""
    read = _BANDS.get(header.format)
    as_stored = header.orientation == 1 and header.channels in (1, 3)
    return read(file, header) if read and as_stored else None


def _bands(path: Path, header: Header) -> Iterator[Image]:
    with _opened(path) as (file, found, _):
        bands = _in_bands(file, header)
        if found != header or bands is None:
            raise InputError("was changed while it was read; upscale it anew")
        yield from bands


def decode_header(data: bytes, name: str) -> Header:
    """As `read_header`, from the bytes of a file; `name` stands in the errors.

    Raises:
        InputError: as for a file.
    """
    with _checked(io.BytesIO(data), len(data), name) as (_, header, _):
        return header


def decode_image(data: bytes, name: str) -> Image:
    """As `read_image`, from the bytes of a file; `name` stands in the errors.

    Raises:
        InputError: as for a file.
    """
    with _checked(io.BytesIO(data), len(data), name) as opened:
        return _decode(opened, name)


def _decode(opened: tuple[BinaryIO, Header, ImageFile | None], name: str) -> Image:
    file, header, image = opened
    _check_memory(_COPIES * header.width * header.height * 4 * np.dtype(header.dtype).itemsize)
    _mention_others(header, name)
    if header.format == "TIFF" and header.dtype != "uint8":
        return tiff.read_deep(file, header)
    return decoding.decode(file, header, image)


def _mention_others(header: Header, name: str) -> None:
    if header.frames > 1:
        logger.warning("%s: only the first of its pictures is read", name)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, Header, ImageFile | None]]:
    """The file and its header; what goes wrong inside becomes an InputError that names it."""
    try:
        check_regular(path, InputError)
        with (
            path.open("rb") as file,
            _checked(file, path.stat().st_size, str(path)) as opened,
        ):
            yield opened
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None


@contextmanager
def _checked(
    file: BinaryIO, size: int, name: str
) -> Iterator[tuple[BinaryIO, Header, ImageFile | None]]:
    """A file of `size` bytes and its header, if that promises what can be borne."""
    try:
        if not size:
            raise InputError("is empty; it should be an image")
        _check_memory(size)
        header, image = decoding.parse_header(file)
        pixels = header.width * header.height
        if pixels > MAX_PIXELS:
            raise InputError(
                f"is {header.width}×{header.height} pixels, more than the {MAX_PIXELS:,} that "
                "are read; cut it into parts"
            )
        yield file, header, image
    except InputError as error:
        raise InputError(f"{name} {error}.") from None
    except Exception as error:  # a damaged file makes the decoders raise nearly anything
        # A place before the start of the file is not the disk's fault.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        kind = "" if isinstance(error, OSError) else f"{type(error).__name__}: "
        raise InputError(f"{name} is truncated or damaged ({kind}{error}); copy it anew.") from None


def _check_memory(need: int) -> None:
    free = psutil.virtual_memory().available
    if need > free:
        raise InputError(
            f"needs about {need / 2**30:.1f} GiB of memory to be read and {free / 2**30:.1f} GiB "
            "are free; use a smaller image"
        )
