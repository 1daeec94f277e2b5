"""AVIF."""

import io
import re
import struct
from dataclasses import replace
from typing import Any, BinaryIO

from PIL import features
from PIL.AvifImagePlugin import AvifImageFile

from hfdn_deploy.errors import InputError
from hfdn_deploy.images.depths import stretched
from hfdn_deploy.images.exif import without_orientation
from hfdn_deploy.images.format import Format, Header, decode_by_opencv
from hfdn_deploy.images.metadata import Metadata
from hfdn_deploy.images.opencv import cv2
from hfdn_deploy.images.profiles import known_cicp
from hfdn_deploy.images.rows import Banded, Pixels

_NCLX = re.compile(rb"colrnclx(....)", re.DOTALL)
_HEAD_BYTES = 1 << 16
_CODE_POINTS = struct.Struct(">HH")


class Avif(Format):
    """AVIF: Pillow reads 8 bits; OpenCV reads 10 and 12 bits, as uint16."""

    name = "AVIF"
    suffixes = (".avif",)
    signature = b"....ftyp.{0,48}avi[fs]"
    pillow = AvifImageFile
    max_side = 32_768
    holds = frozenset(("icc", "cicp", "exif", "xmp"))
    lossy = True

    def _read_metadata(self, info: dict[Any, Any]) -> tuple[Metadata, int]:
        metadata, orientation = super()._read_metadata(info)
        return replace(metadata, cicp=_cicp(self._file)), orientation

    @classmethod
    def write(
        cls, file: BinaryIO, image: Banded, metadata: Metadata, quality: int | None = None
    ) -> None:
        """Write an image; see `Format`."""
        written = io.BytesIO()
        super().write(written, image, metadata, quality)
        # Pillow has no option for code points and writes those of sRGB.
        data = written.getvalue()
        if metadata.cicp and not metadata.icc:
            said = _CODE_POINTS.pack(*metadata.cicp)
            data = _NCLX.sub(lambda box: box[0][: -len(said)] + said, data)
        file.write(data)

    @classmethod
    def _metadata_options(cls, metadata: Metadata) -> dict[str, Any]:
        # Pillow would rewrite EXIF that has an orientation.
        exif = metadata.exif and without_orientation(metadata.exif)
        return super()._metadata_options(replace(metadata, exif=exif))

    def _read_header(self) -> Header:
        try:
            header = super()._read_header()
        except SyntaxError:
            self._file.seek(0)
            if self._file.read(_HEAD_BYTES).count(b"ipma\0") < 2:
                raise
            raise InputError(
                "has two item property boxes (ipma), which is unsupported; convert it to PNG"
            ) from None
        self._bits = _depth(self._file)
        if self._bits <= 8:
            return header
        if not cv2.haveImageWriter(".avif"):
            raise InputError(
                f"is an AVIF of {self._bits} bits, which this build of OpenCV does not read; "
                "convert it to 8 bits or a 16-bit PNG"
            )
        return replace(header, dtype="uint16")

    def _decode(self) -> Pixels:
        """Decode more than 8 bits by OpenCV, which does not scale the samples."""
        if self._bits <= 8:
            return super()._decode()
        self._file.seek(0)
        return stretched(decode_by_opencv(self._file.read(), "uint16"), self._bits)

    @classmethod
    def why_missing(cls) -> str | None:
        """Return the reason if Pillow was built without AVIF."""
        if features.check("avif"):
            return None
        return "this build of Pillow has no AVIF; install a wheel of Pillow 11.3 or later"

    @classmethod
    def becomes_colour(cls, channels: int, dtype: str) -> bool:
        """Return True for grey with alpha, which AVIF does not have."""
        return channels == 2

    @classmethod
    def _encoder_options(cls, quality: int | None) -> dict[str, Any]:
        # No subsampling: it visibly blurs colour.
        return {"quality": quality or 90, "subsampling": "4:4:4"}


def _cicp(file: BinaryIO) -> tuple[int, int] | None:
    """Read the colour information box (ISO/IEC 14496-12, 12.1.5)."""
    file.seek(0)
    found = _NCLX.search(file.read(_HEAD_BYTES))
    return known_cicp(*_CODE_POINTS.unpack(found[1])) if found else None


def _depth(file: BinaryIO) -> int:
    """Read the bits per channel in the pixel information box (ISO/IEC 23008-12, 6.5.6), or 8."""
    file.seek(0)
    found = re.search(rb"pixi....(.)(.)", file.read(_HEAD_BYTES), re.DOTALL)
    return found[2][0] if found and 1 <= found[1][0] <= 4 else 8
