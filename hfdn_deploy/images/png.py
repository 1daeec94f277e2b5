"""PNG, whole or one band of rows at a time, which Pillow and OpenCV cannot do.

A band is read by wrapping its rows, and the row above them, in a small PNG that is decoded whole.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np
from PIL.PngImagePlugin import PngImageFile

from hfdn_deploy.errors import InputError
from hfdn_deploy.images import rows
from hfdn_deploy.images.format import Format, Header, decode_by_opencv
from hfdn_deploy.images.frames import Frames
from hfdn_deploy.images.metadata import Metadata
from hfdn_deploy.images.png_chunks import (
    SIGNATURE,
    STILL,
    filtered_bytes,
    pixel_chunks,
    png_chunk,
    read_metadata,
    walk_chunks,
)
from hfdn_deploy.images.png_writing import COLOUR, PAETH, write_apng, write_png
from hfdn_deploy.images.rows import Banded, Pixels

_READ_BYTES = 2**16
# Deflate expands two bits to at most 258 bytes (RFC 1951, 3.2.5).
_LARGEST_RATIO = 1032

_TOO_EARLY = "the pixels end too early"


class Png(Format):
    """PNG: Pillow reads the header and pixels of 8 bits, OpenCV those of 16."""

    name = "PNG"
    suffixes = (".png", ".apng")
    signature = rb"\x89PNG\r\n\x1a\n"
    pillow = PngImageFile
    dtypes = ("uint8", "uint16")
    holds = frozenset((
        "icc", "cicp", "gamma", "exif", "xmp", "photoshop", "texts", "dpi", "aspect",
    ))  # fmt: skip
    banded = True
    animated = True

    def _read_header(self) -> Header:
        header = super()._read_header()
        if header.animated and all(kind != b"fcTL" for kind, _ in walk_chunks(self._file)):
            self.notes.append("its animation has no frames; its still image is read")
            self._pillow = PngImageFile(io.BytesIO(pixel_chunks(self._file, STILL)))
            header = replace(header, frames=1, animated=False)
        # The fields behind width and height: bits, colour type, three methods.
        self._file.seek(8 + 8 + 8)
        self._kind = self._file.read(5)
        depth, colour = self._kind[:2]
        info: dict[Any, Any] = self._pillow.info
        if depth in (2, 4) and self._pillow.mode == "L" and "transparency" in info:
            # Pillow stretches the pixels to 8 bits, but not the transparent value.
            info["transparency"] *= 255 // (2**depth - 1)
        if depth < 16:
            return header
        if header.frames > 1:  # OpenCV would read another image than Pillow
            raise InputError("is an animated PNG of 16 bits; save its first frame by itself")
        # Pillow reports grey with alpha as RGBA.
        channels = 2 if colour == COLOUR[2] else header.channels
        return replace(header, dtype="uint16", channels=channels)

    def _decode_by_pillow(self) -> Pixels:
        return self._despite_metadata(super()._decode_by_pillow)

    def _without_metadata(self) -> bytes:
        return pixel_chunks(self._file)

    def _read_metadata(self, info: dict[Any, Any]) -> tuple[Metadata, int]:
        return read_metadata(self._file)

    def decode(self) -> Pixels:
        """Decode all pixels; see `Format`. Pillow does not refuse truncated pixels; this does."""
        self._check_length()
        pixels = super().decode()
        if self.header.dtype == "uint8":
            self._check_last_row()
        return pixels

    @property
    def _filtered_bytes(self) -> int:
        return filtered_bytes(self._pillow.width, self._pillow.height, self._kind)

    def _check_length(self) -> None:
        """Raise EOFError if the stream is too short for the pixels at any compression ratio."""
        packed = sum(length for kind, length in walk_chunks(self._file) if kind == b"IDAT")
        if self._filtered_bytes > _LARGEST_RATIO * packed:
            raise EOFError(_TOO_EARLY)

    def _check_last_row(self) -> None:
        """Raise EOFError if pixels are missing, which Pillow leaves black.

        Counting them inflates the file again, so it is only done if the last row is black, or is
        not the last row in the file.
        """
        width, height = self._pillow.size
        *_, interlaced = self._kind
        if interlaced or not self._pillow.crop((0, height - 1, width, height)).getbbox():
            stream = _Inflated(self._file)
            for place in range(0, self._filtered_bytes, rows.BAND_BYTES):
                stream.read(min(rows.BAND_BYTES, self._filtered_bytes - place))

    def _decode(self) -> Pixels:
        if self.header.dtype == "uint8":
            return self._decode_by_pillow()
        self._check_rows()
        pixels = decode_by_opencv(self._essentials(), self.header.dtype)
        if self.header.channels == 2 and pixels.ndim == 2:
            alpha = np.where(pixels == self._pillow.info["transparency"], 0, 65535)
            return np.dstack([pixels, alpha.astype(np.uint16)])
        return pixels[..., [0, 3]] if self.header.channels == 2 else pixels

    def _check_rows(self) -> None:
        """Raise an error for damage that libpng would report on stderr."""
        *_, interlaced = self._kind
        height = self._pillow.height
        row = 0 if interlaced else self._filtered_bytes // height
        size = max(1, rows.BAND_BYTES // row) * row if row else rows.BAND_BYTES
        stream = _Inflated(self._file)
        for place in range(0, self._filtered_bytes, size):
            part = stream.read(min(size, self._filtered_bytes - place))
            if row and max(part[::row]) > PAETH:
                raise ValueError("a row has an invalid filter")
        stream.check_end()

    def _essentials(self) -> bytes:
        """Return the file with the chunks of its pixels alone; libpng would warn about others."""
        transparent = b""
        for kind, length in walk_chunks(self._file):
            if kind == b"tRNS":
                transparent = png_chunk(kind, self._file.read(length))
        size = struct.pack(">II", *self._pillow.size)
        return b"".join(
            [
                SIGNATURE,
                png_chunk(b"IHDR", size + self._kind),
                transparent,
                png_chunk(b"IDAT", b"".join(_idat(self._file))),
                png_chunk(b"IEND", b""),
            ]
        )

    def bands(self) -> Iterator[Pixels] | None:
        """Return bands; None for palettes, less than 8 bits and interlaced images."""
        depth, colour, *_, interlaced = self._kind
        row_bytes = self.header.width * self.header.channels * depth // 8
        if depth < 8 or colour not in (0, 2) or interlaced or row_bytes > rows.LARGEST_PART:
            return None
        self._check_length()
        return self._bands(row_bytes)

    def _bands(self, row_bytes: int) -> Iterator[Pixels]:
        header = self.header
        count = max(1, rows.BAND_BYTES // row_bytes)
        stream = _Inflated(self._file)
        above = bytes(row_bytes)  # (PNG specification, 9.2)
        for top in range(0, header.height, count):
            filtered = stream.read(min(count, header.height - top) * (1 + row_bytes))
            size = struct.pack(">II", header.width, 1 + len(filtered) // (1 + row_bytes))
            small = (
                SIGNATURE
                + png_chunk(b"IHDR", size + self._kind)
                + png_chunk(b"IDAT", zlib.compress(b"\0" + above + filtered, 0))
                + png_chunk(b"IEND", b"")
            )
            if max(filtered[:: 1 + row_bytes]) > PAETH:
                raise ValueError("a row has an invalid filter")
            if header.dtype == "uint8":
                pixels = Png(io.BytesIO(small))._decode()[1:]
            else:
                pixels = decode_by_opencv(small, header.dtype)[1:]
            above = pixels[-1].astype(pixels.dtype.newbyteorder(">")).tobytes()
            yield pixels

    @classmethod
    def becomes_colour(cls, channels: int, dtype: str) -> bool:
        """Return True for grey with alpha of 16 bits, which OpenCV cannot read as such."""
        return channels == 2 and dtype == "uint16"

    @classmethod
    def write(
        cls, file: BinaryIO, image: Banded, metadata: Metadata, quality: int | None = None
    ) -> None:
        """Write an image band by band."""
        write_png(file, image, metadata)

    @classmethod
    def write_frames(
        cls, file: BinaryIO, frames: Frames, metadata: Metadata, quality: int | None = None
    ) -> None:
        """Write an animation frame by frame."""
        write_apng(file, frames, metadata)


class _Inflated:
    """The data of a PNG's IDAT chunks, inflated as it is read."""

    def __init__(self, file: BinaryIO) -> None:
        self._packed = _idat(file)
        self._inflater = zlib.decompressobj()

    def read(self, size: int) -> bytes:
        parts = []
        while size:
            packed = self._inflater.unconsumed_tail or next(self._packed, b"")
            part = self._inflater.decompress(packed, size)
            # Past the end of its stream, zlib would store all input.
            if not part and (self._inflater.eof or not packed):
                raise EOFError(_TOO_EARLY)
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def check_end(self) -> None:
        """Read to the end of the stream, so that zlib verifies its checksum."""
        while not self._inflater.eof:
            packed = self._inflater.unconsumed_tail or next(self._packed, b"")
            if not packed:
                raise EOFError(_TOO_EARLY)
            self._inflater.decompress(packed, _READ_BYTES)


def _idat(file: BinaryIO) -> Iterator[bytes]:
    """Yield the data of a PNG's IDAT chunks, in pieces."""
    for kind, length in walk_chunks(file):
        if kind != b"IDAT":
            continue
        check = zlib.crc32(kind)
        while length:
            piece = file.read(min(length, _READ_BYTES))
            if not piece:
                return
            check = zlib.crc32(piece, check)
            length -= len(piece)
            yield piece
        if file.read(4) != struct.pack(">I", check):
            raise EOFError("a chunk is damaged")
