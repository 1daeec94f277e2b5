"""Reading of image files as arrays, whole or in bands of rows, after their header."""

import errno
import io
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np
from PIL.Image import DecompressionBombError

from hfdn_deploy.atomic import check_regular
from hfdn_deploy.errors import InputError, first_line
from hfdn_deploy.images.format import CONVERT, Format, Header
from hfdn_deploy.images.registry import ALL_FORMATS, IMAGE_SUFFIXES, SIGNATURE_BYTES, format_of
from hfdn_deploy.images.rows import Image, Pixels, Rows, size_of
from hfdn_deploy.machine import free_memory

logger = logging.getLogger(__name__)

# Words by which decoders report an image of an unsupported kind, rather than a damaged one.
_NOT_READ = re.compile(
    "unsupported|not supported|not implemented|unknown|cannot handle|exceed|invalid palette size",
    re.IGNORECASE,
)

# Largest number of pixels, whatever the memory; it is also OpenCV's limit.
MAX_PIXELS = 2**30
# The decoder's copy, the array, and a copy for turned pixels or converted channels.
_COPIES = 3


class ImageTooLargeError(InputError):
    """An image has more than `MAX_PIXELS` pixels, or does not fit into free memory."""


class ImageReader:
    """An image file with its header read; pixels are decoded on request.

    Example:
        with ImageReader(path) as reader:
            print(reader.header.width, reader.header.height)
            image = reader.rows() or reader.read()
    """

    header: Header

    def __init__(self, source: str | os.PathLike[str] | bytes, name: str = "") -> None:
        """Open a file and read its header.

        Args:
            source: a file's path, or its bytes.
            name: the file's name in error messages; by default the path.

        Raises:
            InputError: the file is missing, empty, damaged or of an unsupported kind, such as an
                image of signed numbers.
            ImageTooLargeError: too many pixels, or too little memory for the file.
        """
        self._image: Format | None = None
        if not isinstance(source, bytes):
            source = Path(source)
            check_regular(source, InputError)
        self.name = name or str(source)
        with naming(self.name):
            self._file = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
            try:
                self._state = _state(self._file)
                self._image = self._recognize()
                self.header = self._image.header
                self._check_pixels(self.header.width, self.header.height)
            except BaseException:
                self.close()
                raise

    def _recognize(self) -> Format:
        size = self._file.seek(0, os.SEEK_END)
        if not size:
            raise InputError("is empty; it should be an image")
        _check_memory(size)
        self._file.seek(0)
        kind = format_of(self._file.read(SIGNATURE_BYTES))
        if kind is None:
            *names, last = (known.name for known in ALL_FORMATS)
            raise InputError(f"is not an image in a known format; use {', '.join(names)} or {last}")
        if size_before := kind.size_before(self._file):
            width, height = size_before
            self._check_pixels(width, height)
            _check_memory(_bytes_to_read(width, height, "float32"))
        return kind(self._file)

    def _check_pixels(self, width: int, height: int) -> None:
        if width * height > MAX_PIXELS:
            raise ImageTooLargeError(
                f"is {width}×{height} pixels, more than the limit of {MAX_PIXELS:,}; split it into "
                "smaller images"
            )

    def check_memory(self) -> None:
        """Refuse an image, or a frame of an animation, that does not fit into free memory.

        Raises:
            ImageTooLargeError: too little memory; the message lacks the file's name.
        """
        header = self.header
        _check_memory(_bytes_to_read(header.width, header.height, header.dtype))

    def read(self) -> Image:
        """Decode the whole image as `read_image` does, and close the file.

        Raises:
            InputError: the file is damaged or truncated.
            ImageTooLargeError: too little memory.
        """
        image, header = self.opened(), self.header
        with self, naming(self.name):
            self.check_memory()
            pixels = image.decode()
            self._mention(image)
            if size_of(pixels) != (header.height, header.width, header.channels):
                raise InputError("has another size than its header says; save it again")
            return pixels

    def rows(self) -> Rows | None:
        """Return the image with rows that are decoded on request while the reader is open.

        Returns:
            None if the image must be decoded whole: it is turned or has transparency, or the
            format's `bands` returns None.

        Raises:
            InputError: the file is damaged. Rows above a damaged or missing part can be read
                before.
        """
        image, header = self.opened(), self.header
        if header.orientation != 1 or header.channels not in (1, 3):
            return None
        with naming(self.name):
            if image.bands() is None:
                return None
        self._mention(image)
        shape = (header.height, header.width) + ((3,) if header.channels == 3 else ())
        return Rows(shape, np.dtype(header.dtype), self._bands)

    def _bands(self) -> Iterator[Pixels]:
        image = self.opened()
        with naming(self.name):
            if _state(self._file) != self._state:
                raise InputError("was changed while it was being read; upscale it again")
            yield from image.bands() or ()

    def opened(self) -> Format:
        """Return the format's instance for this file, which must be open."""
        if self._image is None:
            raise ValueError(f"{self.name} was read and closed; open it again")
        return self._image

    def _mention(self, image: Format) -> None:
        others = ["only the first of its images is read"] if self.header.frames > 1 else []
        for note in others + image.notes:
            logger.warning("%s: %s", self.name, note)

    def close(self) -> None:
        """Close the file and free the decoder's memory; the header stays."""
        self._image = None
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if "_file" in vars(self):  # it was opened
            self.close()


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Turn every exception raised in the block into an InputError that names the file."""
    try:
        yield
    except InputError as error:
        raise type(error)(f"{name} {error}.") from None
    except Exception as error:  # decoders raise nearly anything for a damaged file
        if isinstance(error, DecompressionBombError):
            raise ImageTooLargeError(
                f"{name} has far too many pixels; split it into smaller images."
            ) from None
        if isinstance(error, NotImplementedError) or _NOT_READ.search(str(error)):
            reason = first_line(error)
            raise InputError(
                f"{name} is an image of an unsupported kind ({reason}); {CONVERT}."
            ) from None
        # EINVAL is a seek to a negative offset, which comes from a damaged file.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise InputError(f"{name} cannot be read: {error.strerror}.") from None
        kind = "" if isinstance(error, OSError) else f"{type(error).__name__}: "
        reason = f"{kind}{first_line(error)}"
        raise InputError(f"{name} is truncated or damaged ({reason}); copy it again.") from None


def _state(file: BinaryIO) -> tuple[int, int] | None:
    """Return modification time and size of an open file; None for bytes."""
    if isinstance(file, io.BytesIO):
        return None
    status = os.fstat(file.fileno())
    return status.st_mtime_ns, status.st_size


def _bytes_to_read(width: int, height: int, dtype: str) -> int:
    return _COPIES * width * height * 4 * np.dtype(dtype).itemsize


def _check_memory(need: int) -> None:
    free = free_memory()
    if need > free:
        raise ImageTooLargeError(
            f"needs about {need / 2**30:.1f} GiB of memory to be read, but {free / 2**30:.1f} GiB "
            "are free; use a smaller image"
        )


def find_images(folder: Path, recursive: bool = False) -> list[Path]:
    """Return the files in a folder that have an image's suffix, sorted; hidden files are skipped.

    Args:
        folder: if it does not exist, the result is empty.
        recursive: include files in all subfolders that are not hidden.
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
    """Read the header of an image file without decoding the pixels.

    Raises:
        InputError: the file is missing, empty, damaged, not a supported image, or too large.
    """
    with ImageReader(path) as reader:
        return reader.header


def read_image(path: Path) -> Image:
    """Read an image, upright, as uint8, uint16 or float32.

    Returns:
        (H, W) grey, (H, W, 2) grey and alpha, (H, W, 3) RGB or (H, W, 4) RGBA; palettes become
        RGB or RGBA. If the file holds several images, the first.

    Raises:
        InputError: the file is missing, empty, damaged, truncated, not a supported image (one of
            signed numbers, say), or too large, which is checked before any pixel is decoded.
    """
    return ImageReader(path).read()


def open_image(path: Path) -> Image | Rows:
    """Open an image as `read_image` does, but read the rows of a PNG or TIFF on request.

    These are read whole: an image that is turned or has transparency; a PNG that is interlaced or
    has a palette or less than 8 bits; a TIFF of planes, of YCbCr outside JPEG, or of very large
    strips. The file stays open as long as the rows are referenced.

    Raises:
        InputError: as for `read_image`. Rows above a damaged or missing part can be read before.
    """
    reader = ImageReader(path)
    return reader.rows() or reader.read()


def decode_header(data: bytes, name: str) -> Header:
    """Read the header from the bytes of a file; `name` is its name in error messages.

    Raises:
        InputError: as for a file.
    """
    with ImageReader(data, name) as reader:
        return reader.header


def decode_image(data: bytes, name: str) -> Image:
    """Read an image from the bytes of a file; `name` is its name in error messages.

    Raises:
        InputError: as for a file.
    """
    return ImageReader(data, name).read()
