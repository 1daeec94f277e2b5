"""Image files to arrays, whole or in bands of rows; the header is read first."""

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

# How decoders begin to say that they do not know a kind of image, rather than that it is damaged.
_NOT_READ = re.compile(
    "unsupported|not supported|not implemented|unknown|cannot handle|exceed|invalid palette size",
    re.IGNORECASE,
)

# The most pixels that are read, whatever the memory: OpenCV's limit, too.
MAX_PIXELS = 2**30
# The decoder's copy, the array and one more when it is turned or its channels change.
_COPIES = 3


class ImageTooLargeError(InputError):
    """An image has more pixels than are read, or than fit into memory."""


class ImageReader:
    """An image file whose header has been read; its pixels are decoded when asked for.

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
            name: stands in the errors; by default the path.

        Raises:
            InputError: missing, empty, damaged, or an image that is not read (of
                signed numbers, say). ImageTooLargeError: too many pixels, or too little memory for
                the file.
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
            raise InputError(f"is no image that can be decoded: no {', '.join(names)} or {last}")
        if size_before := kind.size_before(self._file):
            width, height = size_before
            self._check_pixels(width, height)
            _check_memory(_bytes_to_read(width, height, "float32"))
        return kind(self._file)

    def _check_pixels(self, width: int, height: int) -> None:
        if width * height > MAX_PIXELS:
            raise ImageTooLargeError(
                f"is {width}×{height} pixels, more than the {MAX_PIXELS:,} that are read; cut it "
                "into parts"
            )

    def check_memory(self) -> None:
        """Refuse an image, or a frame of an animation, that does not fit into free memory.

        Raises:
            ImageTooLargeError: without the file's name.
        """
        header = self.header
        _check_memory(_bytes_to_read(header.width, header.height, header.dtype))

    def read(self) -> Image:
        """Decode the whole image, see `read_image`, and close the file.

        Raises:
            InputError: damaged or truncated. ImageTooLargeError: too little memory.
        """
        image, header = self.opened(), self.header
        with self, naming(self.name):
            self.check_memory()
            pixels = image.decode()
            self._mention(image)
            if size_of(pixels) != (header.height, header.width, header.channels):
                raise InputError("has another size than it says; save it anew")
            return pixels

    def rows(self) -> Rows | None:
        """The image with rows that are decoded when asked for, while the reader is open.

        Returns:
            None if only the whole can be decoded: images that are turned or have transparency,
            and what the format's `bands` leaves out.

        Raises:
            InputError: damaged; of a file that is truncated or damaged further down, the rows
                above that place can be had.
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
                raise InputError("was changed while it was read; upscale it anew")
            yield from image.bands() or ()

    def opened(self) -> Format:
        """The image as its format knows it, while the file is open."""
        if self._image is None:
            raise ValueError(f"{self.name} was read and closed; open it anew")
        return self._image

    def _mention(self, image: Format) -> None:
        others = ["only the first of its images is read"] if self.header.frames > 1 else []
        for note in others + image.notes:
            logger.warning("%s: %s", self.name, note)

    def close(self) -> None:
        """Close the file and free what the decoder holds; the header stays."""
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
    """Have whatever is raised in the block be an InputError that names the file."""
    try:
        yield
    except InputError as error:
        raise type(error)(f"{name} {error}.") from None
    except Exception as error:  # a damaged file makes the decoders raise nearly anything
        if isinstance(error, DecompressionBombError):
            raise ImageTooLargeError(
                f"{name} has far too many pixels; cut it into parts."
            ) from None
        if isinstance(error, NotImplementedError) or _NOT_READ.search(str(error)):
            reason = first_line(error)
            raise InputError(
                f"{name} is of a kind that is not read ({reason}); {CONVERT}."
            ) from None
        # A place before the start of the file is not the disk's fault.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise InputError(f"{name} cannot be read: {error.strerror}.") from None
        kind = "" if isinstance(error, OSError) else f"{type(error).__name__}: "
        reason = f"{kind}{first_line(error)}"
        raise InputError(f"{name} is truncated or damaged ({reason}); copy it anew.") from None


def _state(file: BinaryIO) -> tuple[int, int] | None:
    """What changes when somebody writes to the file; None for bytes."""
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
            f"needs about {need / 2**30:.1f} GiB of memory to be read and {free / 2**30:.1f} GiB "
            "are free; use a smaller image"
        )


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
    """Read what an image file says about its image, without decoding it.

    Raises:
        InputError: missing, empty, damaged, no image that can be read, or too large.
    """
    with ImageReader(path) as reader:
        return reader.header


def read_image(path: Path) -> Image:
    """Read an image, upright; uint8, uint16 or float32.

    Returns:
        (H, W) grey, (H, W, 2) grey and alpha, (H, W, 3) RGB or (H, W, 4) RGBA; palettes become
        RGB or RGBA. Of several images in a file it is the first.

    Raises:
        InputError: missing, empty, damaged, truncated, no image that can be read (of
            signed numbers, say), or too large, which the header tells before anything is decoded.
    """
    return ImageReader(path).read()


def open_image(path: Path) -> Image | Rows:
    """As `read_image`, but the rows of a PNG or TIFF are read when they are wanted, if they can be.

    Whatever is turned or has transparency, an interlaced PNG and one with a palette or less than
    8 bits, and a TIFF of planes, of YCbCr that is not JPEG's, or of very large strips are read
    whole. The file stays open as long as the rows are referred to.

    Raises:
        InputError: as for `read_image`; of a file that is truncated or damaged, rows above that
            place may be had before.
    """
    reader = ImageReader(path)
    return reader.rows() or reader.read()


def decode_header(data: bytes, name: str) -> Header:
    """As `read_header`, from the bytes of a file; `name` stands in the errors.

    Raises:
        InputError: as for a file.
    """
    with ImageReader(data, name) as reader:
        return reader.header


def decode_image(data: bytes, name: str) -> Image:
    """As `read_image`, from the bytes of a file; `name` stands in the errors.

    Raises:
        InputError: as for a file.
    """
    return ImageReader(data, name).read()
