"""JPEG XL, by imagecodecs and pillow-jxl-plugin (extra: codecs)."""

import io
from importlib.util import find_spec
from typing import Any, BinaryIO

import numpy as np
from PIL.JpegImagePlugin import JpegImageFile

from hfdn_deploy.errors import InputError
from hfdn_deploy.images.codecs import check_installed
from hfdn_deploy.images.format import CONVERT, Format, Header
from hfdn_deploy.images.metadata import Metadata
from hfdn_deploy.images.rows import Banded, Pixels, size_of

_CODESTREAM = b"\xff\x0a"
# Bits of a side that is not a small multiple of eight, and ratios of width to height by number
# (ISO/IEC 18181-1, size header).
_SIDE_BITS = (9, 13, 18, 30)
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}


class Jxl(Format):
    """JPEG XL: imagecodecs decodes every depth; the plugin reads profile and EXIF, and writes.

    Neither reads a header alone, so the pixels are decoded with it.
    """

    name = "JXL"
    suffixes = (".jxl",)
    signature = rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n"
    holds = frozenset(("exif", "xmp"))
    lossy = True

    @classmethod
    def size_before(cls, file: BinaryIO) -> tuple[int, int] | None:
        """Return width and height from the size header."""
        start = _start(file)
        return _Bits(start).size() if start else None

    def _read_header(self) -> Header:
        check_installed("a JPEG XL image", "codecs", "imagecodecs", "pillow_jxl")
        from imagecodecs import jpegxl_decode

        frames = 1 + _Bits(_start(self._file)).moves()
        self._file.seek(0)
        data = self._file.read()
        pixels = np.asarray(jpegxl_decode(data, index=0))
        self._pixels = pixels.astype(np.float32) if pixels.dtype == np.float16 else pixels
        height, width, channels = size_of(self._pixels)
        dtype = self._pixels.dtype.name
        if channels > 4 or dtype not in ("uint8", "uint16", "float32"):
            raise InputError(
                f"holds {channels} channels of {dtype}, which are unsupported; {CONVERT}"
            )
        # The library already turns the pixels, so the orientation in EXIF does not apply.
        metadata, _ = self._read_metadata(_info(data))
        return Header(self.name, width, height, channels, dtype, 1, frames, metadata)

    def _decode(self) -> Pixels:
        return self._pixels

    @classmethod
    def why_missing(cls) -> str | None:
        """Return the reason if pillow-jxl-plugin, which is optional, is missing."""
        if find_spec("pillow_jxl"):
            return None
        return "JPEG XL needs pillow-jxl-plugin; pip install 'hfdn-deploy[codecs]'"

    @classmethod
    def write(
        cls, file: BinaryIO, image: Banded, metadata: Metadata, quality: int | None = None
    ) -> None:
        """Write an image; see `Format`."""
        import pillow_jxl  # noqa: F401  (it registers the encoder with Pillow)

        super().write(file, image, metadata, quality)

    @classmethod
    def _encoder_options(cls, quality: int | None) -> dict[str, Any]:
        return {"lossless": True} if quality is None else {"quality": quality}


def _start(file: BinaryIO) -> bytes:
    """Return the start of the codestream; empty if it is not near the start of the file."""
    file.seek(0)
    start = file.read(1 << 16)
    place = 0 if start.startswith(_CODESTREAM) else start.find(_CODESTREAM, 20)
    return start[place + 2 : place + 66] if place >= 0 else b""


class _Bits:
    """The fields at a codestream's start, read in order, lowest bits first."""

    def __init__(self, start: bytes) -> None:
        self._bits = int.from_bytes(start, "little")

    def _take(self, count: int) -> int:
        value = self._bits & ((1 << count) - 1)
        self._bits >>= count
        return value

    def size(self) -> tuple[int, int]:
        """Read width and height."""
        small = self._take(1)
        height = self._side(small)
        if ratio := self._take(3):
            across, down = _RATIOS[ratio]
            return height * across // down, height
        return self._side(small), height

    def _side(self, small: int) -> int:
        return 8 * (self._take(5) + 1) if small else self._take(_SIDE_BITS[self._take(2)]) + 1

    def moves(self) -> bool:
        """Read whether the image is an animation; False if it has a preview."""
        self.size()
        if self._take(1) or not self._take(1):  # all defaults, or no extra fields
            return False
        self._take(3)  # orientation, which the decoder applies
        if self._take(1):
            self.size()  # intrinsic size
        return not self._take(1) and bool(self._take(1))


def _info(data: bytes) -> dict[Any, Any]:
    """Return profile, EXIF and XMP by the names in Pillow's `info`."""
    from pillow_jxl import Decoder

    is_jpeg, _, decoded, profile, boxes = Decoder(num_threads=-1)(data)
    if is_jpeg:  # a JPEG that was recompressed losslessly
        info: dict[Any, Any] = JpegImageFile(io.BytesIO(decoded)).info
        return info
    found = {box.box_type: box.data for box in boxes}
    exif = found.get(b"Exif", b"")
    exif = exif[4:] if exif.startswith(bytes(4)) else exif  # its offset
    return {"icc_profile": profile, "exif": exif, "xmp": found.get(b"xml ")}
