"""AVIF."""

import io
import re
import struct
from dataclasses import replace
from typing import Any, BinaryIO

from PIL import features
from PIL.AvifImagePlugin import AvifImageFile

from hfdn_deploy.errors import InputError
from hfdn_deploy.images.exif import without_orientation
from hfdn_deploy.images.format import Format, Header
from hfdn_deploy.images.metadata import Metadata
from hfdn_deploy.images.profiles import known_cicp
from hfdn_deploy.images.rows import Banded

_NCLX = re.compile(rb"colrnclx(....)", re.DOTALL)
_CODE_POINTS = struct.Struct(">HH")


class Avif(Format):
    """AVIF, by Pillow."""

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
        """Write an image, see `Format`."""
        written = io.BytesIO()
        super().write(written, image, metadata, quality)
        # Pillow writes the colour of sRGB, and has no option for it.
        data = written.getvalue()
        if metadata.cicp and not metadata.icc:
            said = _CODE_POINTS.pack(*metadata.cicp)
            data = _NCLX.sub(lambda box: box[0][: -len(said)] + said, data)
        file.write(data)

    @classmethod
    def _metadata_options(cls, metadata: Metadata) -> dict[str, Any]:
        # Pillow would write EXIF with an orientation anew.
        exif = metadata.exif and without_orientation(metadata.exif)
        return super()._metadata_options(replace(metadata, exif=exif))

    def _read_header(self) -> Header:
        header = super()._read_header()
        if (bits := _depth(self._file)) > 8:
            raise InputError(f"has {bits} bits a channel; convert it to 8 bits or a 16-bit PNG")
        return header

    @classmethod
    def why_missing(cls) -> str | None:
        """Pillow can be built without AVIF."""
        if features.check("avif"):
            return None
        return "this Pillow has no AVIF; install a wheel of Pillow 11.3 or up"

    @classmethod
    def becomes_colour(cls, channels: int, dtype: str) -> bool:
        """AVIF has no grey with alpha."""
        return channels == 2

    @classmethod
    def _encoder_options(cls, quality: int | None) -> dict[str, Any]:
        # Without subsampling: colour is half of what one sees.
        return {"quality": quality or 90, "subsampling": "4:4:4"}


def _cicp(file: BinaryIO) -> tuple[int, int] | None:
    """What the colour information box says (ISO/IEC 14496-12, 12.1.5)."""
    file.seek(0)
    found = _NCLX.search(file.read(1 << 16))
    return known_cicp(*_CODE_POINTS.unpack(found[1])) if found else None


def _depth(file: BinaryIO) -> int:
    """Bits a channel by the pixel information box (ISO/IEC 23008-12, 6.5.6); 8 without one."""
    file.seek(0)
    found = re.search(rb"pixi....(.)(.)", file.read(1 << 16), re.DOTALL)
    return found[2][0] if found and 1 <= found[1][0] <= 4 else 8
