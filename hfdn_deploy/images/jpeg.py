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

# Frames by the low half of their marker (ITU-T T.81, table B.1) that no decoder at hand reads.
_HIERARCHICAL = (5, 6, 7, 13, 14, 15)
_UNREAD = dict.fromkeys(_HIERARCHICAL, "hierarchical") | {11: "lossless arithmetic"}
# Markers that look like those of frames: tables, and one that is reserved.
_NO_FRAMES = (0xC4, 0xC8, 0xCC)
_END = b"\xff\xd9"
_NUMBER_OF_IMAGES = 0xB001  # (CIPA DC-007, 5.2.3.2)


class Jpeg(Format):
    """JPEG: Pillow reads 8 bits, imagecodecs others, as uint16."""

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
            raise InputError(f"is a {_UNREAD[frame.kind]} JPEG, which is not read; {CONVERT}")
        if frame.bits == 8:
            header = super()._read_header()
            return replace(header, frames=self._count_images())
        check_installed(f"a {frame.bits}-bit JPEG", "codecs", "imagecodecs")
        file = self._file
        self._file = io.BytesIO(_with_8_bits(file, frame))  # for Pillow, which refuses others
        header = super()._read_header()
        self._file = file
        if self._pillow.mode not in ("L", "RGB"):
            raise InputError(f"is a {frame.bits}-bit JPEG of {self._pillow.mode}; {CONVERT}")
        return replace(header, dtype="uint16")

    def _count_images(self) -> int:
        """Images of a file in Multi-Picture Format (CIPA DC-007)."""
        with suppress(Exception):  # of a damaged index, without which the image is none the worse
            return int((self._pillow._getmp() or {})[_NUMBER_OF_IMAGES])  # type: ignore[attr-defined]
        return 1

    def _decode(self) -> Pixels:
        if self._frame.bits == 8:
            return super()._decode()
        from imagecodecs import jpeg8_decode

        self._file.seek(0)
        data = self._file.read()
        if data.find(_END, self._frame.place) < 0:  # which the decoder does not mind
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
        """Write an image, see `Format`."""
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
        # Without subsampling: colour is half of what one sees.
        return {"quality": quality or 95, "subsampling": 0}


class _Frame(NamedTuple):
    """The start of a JPEG's frame."""

    kind: int
    """0 to 15: the low half of its marker."""
    bits: int
    """Of a sample."""
    place: int
    """In the file, of the byte that says so."""


def _find_frame(file: BinaryIO) -> _Frame:
    """The first frame; where there is none, one that Pillow will refuse."""
    for marker, place, _ in walk_segments(file):
        if marker & 0xF0 == 0xC0 and marker not in _NO_FRAMES:
            return _Frame(marker & 0x0F, (file.read(1) or b"\x08")[0], place)
    return _Frame(0, 8, 0)


def _with_8_bits(file: BinaryIO, frame: _Frame) -> bytes:
    """The file with another number of bits."""
    file.seek(0)
    data = bytearray(file.read())
    data[frame.place] = 8
    return bytes(data)
