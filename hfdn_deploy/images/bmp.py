"""BMP."""

import io
import struct
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import numpy as np
from PIL.BmpImagePlugin import BmpImageFile

from hfdn_deploy.errors import InputError
from hfdn_deploy.images.depths import stretched
from hfdn_deploy.images.format import CONVERT, Format, Header
from hfdn_deploy.images.metadata import Metadata
from hfdn_deploy.images.rows import Banded, Pixels

_FILE_HEADER = 14
# Sizes of headers that can have bit fields: BITMAPINFOHEADER and its successors up to version 5.
_HEADERS = (40, 52, 56, 108, 124)
# Headers of at least the first size, and the last compression, have a mask for alpha.
_WITH_ALPHA, _BITFIELDS, _ALPHA_BITFIELDS = 56, 3, 6
_METRES_PER_INCH = 0.0254
_VERSION_4, _VERSION_5 = 108, 124
# Kinds of colour space in headers of versions 4 and 5 (bV5CSType).
_CALIBRATED, _EMBEDDED, _LINKED = bytes(4), b"DEBM", b"KNIL"
_IMAGES = 4
"""The rendering intent of photos (LCS_GM_IMAGES): perceptual."""


@dataclass(frozen=True)
class _Fields:
    """The storage of pixels as bit fields."""

    bytes: int
    """Bytes of a pixel."""
    masks: tuple[int, ...]
    """Bits of red, green, blue and, if there is any, alpha."""
    start: int
    """Place of the pixels in the file."""
    upwards: bool
    """Whether the bottom row is stored first."""


class Bmp(Format):
    """BMP, by Pillow, which reads only a few kinds of bit fields; they are read here."""

    name = "BMP"
    suffixes = (".bmp",)
    # "BM", four reserved bytes, and the size of a known header.
    signature = rb"BM.{4}\0{4}.{4}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0{3}"
    pillow = BmpImageFile
    alpha = False
    # The file's size has 32 bits; some room is left for the header.
    max_bytes = 2**32 - 2**24
    holds = frozenset(("icc", "dpi"))
    _fields: _Fields | None = None

    def _read_header(self) -> Header:
        start = self._file.read(_FILE_HEADER + 4 + 36 + 16).ljust(_FILE_HEADER + 4 + 36 + 16, b"\0")
        pixels, size, width, height, _, bits, compression, _, *density = struct.unpack_from(
            "<IIiiHHIIii", start, 10
        )
        if compression not in (_BITFIELDS, _ALPHA_BITFIELDS) or size not in _HEADERS:
            return super()._read_header()
        masks = struct.unpack_from("<4I", start, _FILE_HEADER + 40)
        if not (size >= _WITH_ALPHA or compression == _ALPHA_BITFIELDS) or not masks[3]:
            masks = masks[:3]
        if bits not in (16, 24, 32) or width < 1 or not height:
            raise InputError(
                f"has {width}×{height} pixels of bit fields in {bits} bits, which is unsupported; "
                f"{CONVERT}"
            )
        if any(_is_split(mask) or mask >> bits for mask in masks):
            raise InputError(f"has split or empty bit fields, which are unsupported; {CONVERT}")
        self._fields = _Fields(bits // 8, masks, pixels, height > 0)
        dtype = "uint8" if max(mask.bit_count() for mask in masks) <= 8 else "uint16"
        metadata, _ = self._read_metadata({"dpi": [side * _METRES_PER_INCH for side in density]})
        return Header(self.name, width, abs(height), len(masks), dtype, 1, 1, metadata)

    def _read_metadata(self, info: dict[Any, Any]) -> tuple[Metadata, int]:
        metadata, orientation = super()._read_metadata(info)
        self._file.seek(_FILE_HEADER)
        header = self._file.read(_VERSION_5).ljust(_VERSION_5, b"\0")
        (size,) = struct.unpack_from("<I", header)
        kind, gammas = header[56:60], header[96:108]
        if size == _VERSION_5 and kind == _EMBEDDED:
            place, length = struct.unpack_from("<II", header, 112)
            self._file.seek(_FILE_HEADER + place)
            profile = self._file.read(length)
            if profile[36:40] == b"acsp" and len(profile) == length:
                return replace(metadata, icc=profile), orientation
            lost = "colour profile of the source is damaged"
        elif size == _VERSION_5 and kind == _LINKED:
            lost = "colour profile of the source is in another file"
        elif size in (_VERSION_4, _VERSION_5) and kind == _CALIBRATED and any(gammas):
            lost = "gamma of the source is that of a calibrated device"
        else:
            return metadata, orientation
        return replace(metadata, lost=(f"the {lost} and left out",)), orientation

    def _decode(self) -> Pixels:
        if self._fields is None:
            return super()._decode()
        height, width, fields = self.header.height, self.header.width, self._fields
        row = -(-width * fields.bytes // 4) * 4
        self._file.seek(fields.start)
        data = self._file.read(height * row)
        if len(data) < height * row:
            raise EOFError("the pixels end too early")
        rows = np.frombuffer(data, np.uint8).reshape(height, row)[:: -1 if fields.upwards else 1]
        stored = rows[:, : width * fields.bytes].reshape(height, width, fields.bytes)
        numbers = np.zeros((height, width), np.uint32)
        for i in range(fields.bytes):
            numbers |= stored[..., i].astype(np.uint32) << (8 * i)
        pixels = np.empty((height, width, len(fields.masks)), self.header.dtype)
        for channel, mask in enumerate(fields.masks):
            low, count = _lowest(mask), mask.bit_count()
            # The table for more than 16 bits would take gigabytes.
            low, count = low + max(0, count - 16), min(count, 16)
            pixels[..., channel] = stretched((numbers & mask) >> low, count, self.header.dtype)
        return pixels

    @classmethod
    def write(
        cls, file: BinaryIO, image: Banded, metadata: Metadata, quality: int | None = None
    ) -> None:
        """Write an image; see `Format`. With a profile it has a header of version 5."""
        if not metadata.icc:
            return super().write(file, image, metadata, quality)
        bare = io.BytesIO()
        super().write(bare, image, metadata, quality)
        data = bare.getvalue()
        more = _VERSION_5 - 40  # Pillow's header
        end = len(data) + more
        (start,) = struct.unpack_from("<I", data, 10)
        file.write(b"BM" + struct.pack("<III", end + len(metadata.icc), 0, start + more))
        file.write(struct.pack("<I", _VERSION_5) + data[_FILE_HEADER + 4 : _FILE_HEADER + 40])
        # No masks, primaries or gammas. The profile's place is counted from this header's start.
        file.write(bytes(16) + _EMBEDDED + bytes(48))
        file.write(struct.pack("<4I", _IMAGES, end - _FILE_HEADER, len(metadata.icc), 0))
        file.write(data[_FILE_HEADER + 40 :] + metadata.icc)

    @classmethod
    def _metadata_options(cls, metadata: Metadata) -> dict[str, Any]:
        return {"dpi": metadata.dpi} if metadata.dpi else {}


def _lowest(mask: int) -> int:
    """Return the place of the lowest bit."""
    return (mask & -mask).bit_length() - 1


def _is_split(mask: int) -> bool:
    """Return whether a mask is empty or its bits are not contiguous."""
    return not mask or mask >> _lowest(mask) != (1 << mask.bit_count()) - 1
