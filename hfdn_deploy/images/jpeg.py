"""JPEG."""

import io
from contextlib import suppress
from dataclasses import replace
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL.JpegImagePlugin import JpegImageFile

from hfdn_deploy.errors import InputError
from hfdn_deploy.images.codecs import check_installed
from hfdn_deploy.images.depths import stretched
from hfdn_deploy.images.format import CONVERT, Format, Header
from hfdn_deploy.images.jpeg_segments import (
    metadata_segments,
    pixel_segments,
    read_metadata,
    walk_segments,
    write_aspect,
)
from hfdn_deploy.images.metadata import Metadata
from hfdn_deploy.images.rows import Banded, Pixels

# Kinds of frames, by the low half of their marker (ITU-T T.81, table B.1), without a decoder.
_HIERARCHICAL = (5, 6, 7, 13, 14, 15)
_UNREAD = dict.fromkeys(_HIERARCHICAL, "hierarchical") | {11: "lossless arithmetic"}
# Markers in the range of frames that are not frames: tables, and a reserved marker.
_NO_FRAMES = (0xC4, 0xC8, 0xCC)
_END = b"\xff\xd9"
_NUMBER_OF_IMAGES = 0xB001  # (CIPA DC-007, 5.2.3.2)


class Jpeg(Format):
    """JPEG: Pillow reads 8 bits; imagecodecs reads other depths, as uint16."""

    name = "JPEG"
    suffixes = (".jpg", ".jpeg", ".jpe", ".jfif")
    signature = rb"\xff\xd8\xff"
    pillow = JpegImageFile
    alpha = False
    max_side = 65_500
    holds = frozenset((
        "icc", "exif", "xmp", "extended_xmp", "photoshop", "comments", "segments", "dpi", "aspect",
    ))  # fmt: skip
    max_block = 65_000
    lossy = True

    def _read_header(self) -> Header:
        self._frame = frame = _find_frame(self._file)
        if frame.kind in _UNREAD:
            raise InputError(f"is a {_UNREAD[frame.kind]} JPEG, which is unsupported; {CONVERT}")
        if frame.bits == 8:
            header = super()._read_header()
            return replace(header, frames=self._count_images())
        check_installed(f"a {frame.bits}-bit JPEG", "codecs", "imagecodecs")
        file = self._file
        self._file = io.BytesIO(_with_8_bits(file, frame))  # Pillow refuses other depths
        header = super()._read_header()
        self._file = file
        if self._pillow.mode not in ("L", "RGB"):
            mode = f"{frame.bits}-bit JPEG of {self._pillow.mode}"
            raise InputError(f"is a {mode}, which is unsupported; {CONVERT}")
        return replace(header, dtype="uint16")

    def _count_images(self) -> int:
        """Return the number of images in a file in Multi-Picture Format (CIPA DC-007)."""
        with suppress(Exception):  # the index may be damaged; the image does not need it
            return int((self._pillow._getmp() or {})[_NUMBER_OF_IMAGES])  # type: ignore[attr-defined]
        return 1

    def _decode(self) -> Pixels:
        if self._frame.bits == 8:
            return super()._decode()
        from imagecodecs import jpeg8_decode

        self._file.seek(0)
        data = self._file.read()
        if data.find(_END, self._frame.place) < 0:  # the decoder would not complain
            raise EOFError("the pixels end too early")
        return stretched(np.asarray(jpeg8_decode(data)), self._frame.bits)

    def _without_metadata(self) -> bytes:
        return pixel_segments(self._file)

    def _read_metadata(self, info: dict[Any, Any]) -> tuple[Metadata, int]:
        return read_metadata(self._file, info)

    @classmethod
    def write(
        cls, file: BinaryIO, image: Banded, metadata: Metadata, quality: int | None = None
    ) -> None:
        """Write an image; see `Format`."""
        super().write(file, image, metadata, quality)
        if metadata.aspect and not metadata.dpi:
            write_aspect(file, metadata.aspect)

    @classmethod
    def _metadata_options(cls, metadata: Metadata) -> dict[str, Any]:
        density = {"dpi": metadata.dpi} if metadata.dpi else {}
        # Pillow writes `extra` as it is, behind the JFIF segment.
        return {**density, "extra": metadata_segments(metadata)}

    @classmethod
    def _encoder_options(cls, quality: int | None) -> dict[str, Any]:
        # No subsampling: it visibly blurs colour.
        return {"quality": quality or 95, "subsampling": 0}


class _Frame(NamedTuple):
    """The start of a JPEG's frame."""

    kind: int
    """0 to 15: the low half of its marker."""
    bits: int
    """Bits of a sample."""
    place: int
    """Place in the file of the byte that holds `bits`."""


def _find_frame(file: BinaryIO) -> _Frame:
    """Return the first frame; if there is none, a baseline frame, and Pillow refuses the file."""
    for marker, place, _ in walk_segments(file):
        if marker & 0xF0 == 0xC0 and marker not in _NO_FRAMES:
            return _Frame(marker & 0x0F, (file.read(1) or b"\x08")[0], place)
    return _Frame(0, 8, 0)


def _with_8_bits(file: BinaryIO, frame: _Frame) -> bytes:
    """Return the file with 8 as its number of bits."""
    file.seek(0)
    data = bytearray(file.read())
    data[frame.place] = 8
    return bytes(data)
