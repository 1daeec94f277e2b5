"""The base class of image formats; each format is a subclass in its own module."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, ClassVar, TypeVar

import numpy as np
from PIL import Image as PillowImage
from PIL.ImageFile import ImageFile

from hfdn_deploy.errors import InputError
from hfdn_deploy.images.conversion import CONVERTED, to_srgb
from hfdn_deploy.images.frames import Frames, FramesOfPillow
from hfdn_deploy.images.metadata import Metadata, metadata_of, valid_dpi
from hfdn_deploy.images.opencv import cv2
from hfdn_deploy.images.rows import Banded, Pixels

# Channels by Pillow's mode, without a colour or palette entry that is declared transparent.
CHANNELS = {"1": 1, "L": 1, "I;16": 1, "LA": 2, "P": 3, "RGB": 3, "RGBX": 3, "YCbCr": 3}
CHANNELS |= {"PA": 4, "RGBA": 4, "La": 2, "CMYK": 3, "LAB": 3}
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
CONVERT = "convert it to PNG"
"""The advice for an image of an unsupported kind."""

T = TypeVar("T")


@dataclass(frozen=True)
class Header:
    """The properties of an image, known before any pixel is decoded."""

    format: str
    """The `name` of its `Format`."""
    width: int
    height: int
    """In pixels, after the orientation is applied."""
    channels: int
    """1 grey, 2 grey and alpha, 3 RGB, 4 RGBA."""
    dtype: str
    """uint8, uint16 or float32."""
    orientation: int
    """1 to 8 (EXIF 2.32, 4.6.4): the turn that makes the stored pixels upright."""
    frames: int
    """Number of images in the file, or 2 if it has several; the first is read."""
    metadata: Metadata
    animated: bool = False
    """Whether the images are frames that `Animation` reads."""


class Format:
    """A file format: the class describes and writes it, an instance reads one file.

    The methods of this base class read and write 8-bit images with Pillow.
    """

    name: ClassVar[str]
    """The name in messages; in upper case it is Pillow's name for the format."""
    suffixes: ClassVar[tuple[str, ...]]
    """In lower case; the first is the usual one."""
    signature: ClassVar[bytes]
    """A regular expression for the first bytes of a file."""
    pillow: ClassVar[type[ImageFile]]
    """Pillow's reader; it is named so that no other reader of Pillow sees the file."""
    dtypes: ClassVar[tuple[str, ...]] = ("uint8",)
    alpha: ClassVar[bool] = True
    max_side: ClassVar[int] = 2**31 - 1
    """Largest width or height in pixels."""
    max_bytes: ClassVar[int] = 2**63
    """Largest size of all pixels in bytes."""
    if_too_large: ClassVar[str] = "choose .png or .tif"
    """The advice for a larger image."""
    holds: ClassVar[frozenset[str]] = frozenset(("icc", "exif", "xmp"))
    """The fields of `Metadata` that the format can hold."""
    max_block: ClassVar[int | None] = None
    """Largest EXIF or XMP in bytes; None if it is unlimited."""
    lossy: ClassVar[bool] = False
    """Whether `write` takes a quality into account."""
    banded: ClassVar[bool] = False
    """Whether an image is written band by band, without holding it."""
    animated: ClassVar[bool] = False
    """Whether `write_frames` writes the format; animations of other formats may be readable."""

    def __init__(self, file: BinaryIO) -> None:
        """Read the header.

        Args:
            file: open for reading and seeking; it must stay open as long as the instance is used.

        Raises:
            InputError: the image is of an unsupported kind. As in the other methods, the message
                is written to follow the file's name.
            Exception: the file is damaged; a decoder raises anything. So do the other methods.
        """
        self.notes: list[str] = []
        """Warnings to log when the pixels are read; each is written to follow the file's name."""
        self._file = file
        file.seek(0)
        header = self._read_header()
        metadata = replace(header.metadata, size=(header.width, header.height))
        self.header = replace(header, metadata=metadata)

    @classmethod
    def size_before(cls, file: BinaryIO) -> tuple[int, int] | None:
        """Return width and height if making an instance would decode the pixels, else None."""
        return None

    def _read_header(self) -> Header:
        image = self._open_pillow()
        metadata, orientation = self._read_metadata(image.info)
        channels = CHANNELS[image.mode]
        if channels in (1, 3) and "transparency" in image.info:
            channels += 1
        width, height = image.size if orientation < 5 else reversed(image.size)
        frames = getattr(image, "n_frames", 1)
        return Header(
            self.name, width, height, channels, "uint8", orientation, frames, metadata, frames > 1
        )

    def _open_pillow(self) -> ImageFile:
        """Read the header with Pillow; `_pillow` will decode the pixels."""
        self._despite_metadata(self._start_pillow)
        if self._pillow.mode not in CHANNELS:
            raise InputError(f"holds {self._pillow.mode} pixels, which are unsupported; {CONVERT}")
        if self._pillow.mode in CONVERTED:
            self._profile: bytes | None = self._pillow.info.pop("icc_profile", None)
        return self._pillow

    def _start_pillow(self) -> None:
        self._file.seek(0)
        self._pillow = self.pillow(self._file, "")

    def _despite_metadata(self, action: Callable[[], T]) -> T:
        """Call `action`; if it fails, call it again on a copy of the file without metadata."""
        try:
            return action()
        except (ValueError, SyntaxError) as error:
            bare, failure = self._without_metadata(), error
        file, self._file = self._file, io.BytesIO(bare)
        try:
            self._start_pillow()
            return action()
        except Exception:
            raise failure from None
        finally:
            self._file = file

    def _without_metadata(self) -> bytes:
        """Return the file without metadata that Pillow parses; empty if that is impossible."""
        return b""

    def shown(self) -> Iterator[tuple[Pixels, dict[Any, Any]]]:
        """Yield the frames of an animation as they are displayed, from the first.

        Returns:
            Each frame as RGBA (H, W, 4) uint8, not turned upright, and Pillow's `info`.
        """
        image: Any = self._open_pillow()
        # The default image, for programs without animations, is not a frame.
        for number in range(bool(getattr(image, "default_image", False)), image.n_frames):
            image.seek(number)
            yield np.asarray(image.convert("RGBA")), image.info

    def _read_metadata(self, info: dict[Any, Any]) -> tuple[Metadata, int]:
        """Return metadata and orientation from Pillow's `info`."""
        return metadata_of(
            info.get("exif"),
            info.get("xmp"),
            icc=info.get("icc_profile"),
            dpi=valid_dpi(info.get("dpi")),
        )

    def decode(self) -> Pixels:
        """Decode all pixels, upright: (H, W), (H, W, 2), (H, W, 3) or (H, W, 4). Call it once.

        Raises:
            InputError: the pixels are damaged.
        """
        return np.ascontiguousarray(turn_upright(self._decode(), self.header.orientation))

    def _decode(self) -> Pixels:
        """Decode the pixels as they are stored."""
        return self._decode_by_pillow()

    def _decode_by_pillow(self) -> Pixels:
        self._pillow.load()
        mode = _MODES[self.header.channels]
        if self._pillow.mode in CONVERTED:
            image, note = to_srgb(self._pillow, self._profile)
            self.notes.append(note)
            return np.asarray(image)
        return np.asarray(self._pillow if self._pillow.mode == mode else self._pillow.convert(mode))

    def bands(self) -> Iterator[Pixels] | None:
        """Return the pixels of an upright, opaque image in bands of rows from top to bottom.

        Returns:
            The bands; None if rows cannot be decoded one after the other. Only one iterator may
            be in use at a time. It raises the errors of `decode`.
        """
        return None

    @classmethod
    def why_missing(cls) -> str | None:
        """Return the reason why this installation cannot write the format, or None if it can."""
        return None

    @classmethod
    def becomes_colour(cls, channels: int, dtype: str) -> bool:
        """Return whether a grey image, of 1 or 2 channels, must be written as colour."""
        return False

    @classmethod
    def write(
        cls, file: BinaryIO, image: Banded, metadata: Metadata, quality: int | None = None
    ) -> None:
        """Write a file.

        Args:
            file: empty, and open for writing and seeking.
            image: (H, W), (H, W, 2), (H, W, 3) or (H, W, 4), in native byte order; the format
                must be able to hold it.
            metadata: only fields that the format can hold.
            quality: 1 to 100, or None for the format's default.

        Raises:
            Exception: a limit of the format is exceeded; the encoder raises anything.
        """
        options = cls._encoder_options(quality) | cls._metadata_options(metadata)
        pixels = PillowImage.fromarray(image.whole())
        stream: Any = _Stream(file)
        pixels.save(stream, cls.name, **options)

    @classmethod
    def plays(cls, info: dict[Any, Any]) -> int:
        """Return how often an animation plays, from Pillow's `info`; 0 is forever."""
        return int(info.get("loop", 0))

    @classmethod
    def write_frames(
        cls, file: BinaryIO, frames: Frames, metadata: Metadata, quality: int | None = None
    ) -> None:
        """Write an animation; see `write`."""
        options = cls._encoder_options(quality) | cls._metadata_options(metadata)
        options |= {"duration": frames.durations(), "loop": frames.plays, "save_all": True}
        stream: Any = _Stream(file)
        FramesOfPillow(frames).save(stream, cls.name, **options)

    @classmethod
    def _metadata_options(cls, metadata: Metadata) -> dict[str, Any]:
        """Return Pillow's options for the metadata."""
        options = {"icc_profile": metadata.icc, "exif": metadata.exif, "xmp": metadata.xmp}
        return {name: value for name, value in options.items() if value}

    @classmethod
    def _encoder_options(cls, quality: int | None) -> dict[str, Any]:
        """Return Pillow's options for this quality."""
        return {}


class _Stream(io.RawIOBase):
    """A file without a descriptor: Pillow does not check for short writes to a descriptor."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, data: Any) -> int:
        return self._file.write(data)


def decode_by_opencv(data: bytes, dtype: str) -> Pixels:
    """Decode pixels of more than 8 bits or floats, which Pillow does not read or reduces to 8 bits.

    Args:
        data: the file.
        dtype: of the pixels.

    Raises:
        InputError: OpenCV returns no pixels, or pixels of another dtype.
    """
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != dtype:
        raise InputError("is truncated or damaged; copy it again")
    if pixels.ndim == 3:
        order = cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
        pixels = cv2.cvtColor(pixels, order)
    return pixels


def turn_upright(pixels: Pixels, orientation: int) -> Pixels:
    """Return pixels turned upright, for an orientation of 1 to 8 (EXIF 2.32, 4.6.4)."""
    if orientation > 4:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels
