"""What all image formats share; each is a subclass, in a module of its own."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, ClassVar, TypeVar

import cv2
import numpy as np
from PIL import Image as PillowImage
from PIL.ImageFile import ImageFile

from hfdn_deploy.errors import InputError
from hfdn_deploy.images.conversion import CONVERTED, to_srgb
from hfdn_deploy.images.frames import Frames, FramesOfPillow
from hfdn_deploy.images.metadata import Metadata, metadata_of, valid_dpi
from hfdn_deploy.images.rows import Banded, Pixels

# Channels by Pillow's mode; a colour or palette entry may be transparent besides.
CHANNELS = {"1": 1, "L": 1, "I;16": 1, "LA": 2, "P": 3, "RGB": 3, "RGBX": 3, "YCbCr": 3}
CHANNELS |= {"PA": 4, "RGBA": 4, "La": 2, "CMYK": 3, "LAB": 3}
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
CONVERT = "convert it to PNG"
"""What to do about a kind of image that is not read."""

T = TypeVar("T")


@dataclass(frozen=True)
class Header:
    """What a file says about its image before any pixel is decoded."""

    format: str
    """The `name` of its `Format`."""
    width: int
    height: int
    """In pixels, of the upright image: the orientation is applied."""
    channels: int
    """1 grey, 2 grey and alpha, 3 RGB, 4 RGBA."""
    dtype: str
    """uint8, uint16 or float32."""
    orientation: int
    """1 to 8 (EXIF 2.32, 4.6.4): how the stored pixels must be turned."""
    frames: int
    """Images in the file, or 2 for several; the first is read."""
    metadata: Metadata
    animated: bool = False
    """Whether these images are frames that `Animation` reads."""


class Format:
    """A file format.

    The class says what the format can hold and writes it; an instance reads one file. As they
    stand here, the methods have Pillow do the work, for images of 8 bits.
    """

    name: ClassVar[str]
    """The name in messages, and Pillow's but for the case."""
    suffixes: ClassVar[tuple[str, ...]]
    """In lower case; the first is the usual one."""
    signature: ClassVar[bytes]
    """A regular expression for the first bytes of a file."""
    pillow: ClassVar[type[ImageFile]]
    """Pillow's reader. It is named, so that no other of Pillow's readers sees the file."""
    dtypes: ClassVar[tuple[str, ...]] = ("uint8",)
    alpha: ClassVar[bool] = True
    max_side: ClassVar[int] = 2**31 - 1
    """Pixels a side."""
    max_bytes: ClassVar[int] = 2**63
    """Bytes of all pixels."""
    if_too_large: ClassVar[str] = "choose .png or .tif"
    """What to do about an image that is larger."""
    holds: ClassVar[frozenset[str]] = frozenset(("icc", "exif", "xmp"))
    """The fields of `Metadata` that the format can hold."""
    max_block: ClassVar[int | None] = None
    """Bytes of EXIF or XMP, if they are limited."""
    lossy: ClassVar[bool] = False
    """Whether a quality changes what is written."""
    banded: ClassVar[bool] = False
    """Whether an image is written as its rows come, without holding it."""
    animated: ClassVar[bool] = False
    """Whether `write_frames` writes the format; animations of others may be read all the same."""

    def __init__(self, file: BinaryIO) -> None:
        """Read the header.

        Args:
            file: open for reading and seeking, as long as the instance is used.

        Raises:
            InputError: a kind of image that is not read. This message, like those of the other
                methods, goes behind the file's name.
            Exception: whatever a damaged file makes the decoders raise; so do the other methods.
        """
        self.notes: list[str] = []
        """What is said of the pixels when they are read; each goes behind the file's name."""
        self._file = file
        file.seek(0)
        header = self._read_header()
        metadata = replace(header.metadata, size=(header.width, header.height))
        self.header = replace(header, metadata=metadata)

    @classmethod
    def size_before(cls, file: BinaryIO) -> tuple[int, int] | None:
        """Width and height, if an instance cannot be made without decoding the pixels."""
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
        """Have Pillow read the header; `_pillow` will decode the pixels."""
        self._despite_metadata(self._start_pillow)
        if self._pillow.mode not in CHANNELS:
            raise InputError(f"holds {self._pillow.mode} pixels, which are not read; {CONVERT}")
        if self._pillow.mode in CONVERTED:
            self._profile: bytes | None = self._pillow.info.pop("icc_profile", None)
        return self._pillow

    def _start_pillow(self) -> None:
        self._file.seek(0)
        self._pillow = self.pillow(self._file, "")

    def _despite_metadata(self, action: Callable[[], T]) -> T:
        """Do it; if Pillow fails, maybe for metadata, open a copy without them and do it then."""
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
        """The file without the metadata that Pillow reads; empty if no such file can be made."""
        return b""

    def shown(self) -> Iterator[tuple[Pixels, dict[Any, Any]]]:
        """The frames of an animation as they are shown, from the first.

        Returns:
            Of each, RGBA (H, W, 4) as it is stored, uint8, and what Pillow knows.
        """
        image: Any = self._open_pillow()
        # An image for programs that know no animations is no frame.
        for number in range(bool(getattr(image, "default_image", False)), image.n_frames):
            image.seek(number)
            yield np.asarray(image.convert("RGBA")), image.info

    def _read_metadata(self, info: dict[Any, Any]) -> tuple[Metadata, int]:
        """Metadata and orientation from what Pillow knows."""
        return metadata_of(
            info.get("exif"),
            info.get("xmp"),
            icc=info.get("icc_profile"),
            dpi=valid_dpi(info.get("dpi")),
        )

    def decode(self) -> Pixels:
        """Decode all pixels, upright: (H, W), (H, W, 2), (H, W, 3) or (H, W, 4); once.

        Raises:
            InputError: damaged.
        """
        return np.ascontiguousarray(turn_upright(self._decode(), self.header.orientation))

    def _decode(self) -> Pixels:
        """The pixels as they are stored."""
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
        """The pixels in bands of rows from top to bottom, of an image that is upright and opaque.

        Returns:
            The bands; None if rows cannot be decoded one after the other. One iterator at a time
            may be used. It raises what `decode` raises.
        """
        return None

    @classmethod
    def why_missing(cls) -> str | None:
        """Why this installation cannot write the format, if so."""
        return None

    @classmethod
    def becomes_colour(cls, channels: int, dtype: str) -> bool:
        """Whether a grey image, of 1 or 2 channels, must be written as colour."""
        return False

    @classmethod
    def write(
        cls, file: BinaryIO, image: Banded, metadata: Metadata, quality: int | None = None
    ) -> None:
        """Write a file.

        Args:
            file: empty, and open for writing and seeking.
            image: (H, W), (H, W, 2), (H, W, 3) or (H, W, 4), in the machine's byte order; one
                that the format can hold.
            metadata: what the format can hold.
            quality: 1 to 100, or None for the format's default.

        Raises:
            Exception: whatever the encoder raises where a limit of the format is passed.
        """
        options = cls._encoder_options(quality) | cls._metadata_options(metadata)
        pixels = PillowImage.fromarray(image.whole())
        stream: Any = _Stream(file)
        pixels.save(stream, cls.name, **options)

    @classmethod
    def plays(cls, info: dict[Any, Any]) -> int:
        """How often an animation is shown by what Pillow knows; 0 for ever."""
        return int(info.get("loop", 0))

    @classmethod
    def write_frames(
        cls, file: BinaryIO, frames: Frames, metadata: Metadata, quality: int | None = None
    ) -> None:
        """Write an animation; as `write`."""
        options = cls._encoder_options(quality) | cls._metadata_options(metadata)
        options |= {"duration": frames.durations(), "loop": frames.plays, "save_all": True}
        stream: Any = _Stream(file)
        FramesOfPillow(frames).save(stream, cls.name, **options)

    @classmethod
    def _metadata_options(cls, metadata: Metadata) -> dict[str, Any]:
        """Pillow's options for what the format can hold of the metadata."""
        options = {"icc_profile": metadata.icc, "exif": metadata.exif, "xmp": metadata.xmp}
        return {name: value for name, value in options.items() if value}

    @classmethod
    def _encoder_options(cls, quality: int | None) -> dict[str, Any]:
        """Pillow's options for this quality."""
        return {}


class _Stream(io.RawIOBase):
    """A file without a descriptor, by which Pillow would write without checking how much was."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, data: Any) -> int:
        return self._file.write(data)


def decode_by_opencv(data: bytes, dtype: str) -> Pixels:
    """Pixels of more than 8 bits and floats, which Pillow does not read or cuts down to 8 bits.

    Args:
        data: the file.
        dtype: of the pixels.

    Raises:
        InputError: OpenCV decodes none of this dtype.
    """
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != dtype:
        raise InputError("is truncated or damaged; copy it anew")
    if pixels.ndim == 3:
        order = cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
        pixels = cv2.cvtColor(pixels, order)
    return pixels


def turn_upright(pixels: Pixels, orientation: int) -> Pixels:
    """Undo the turn of a camera; what the numbers mean: EXIF 2.32, 4.6.4, orientation."""
    if orientation > 4:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels
