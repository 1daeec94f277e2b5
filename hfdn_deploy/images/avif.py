"""AVIF."""

import re
from typing import Any, BinaryIO

from PIL import features
from PIL.AvifImagePlugin import AvifImageFile

from hfdn_deploy.errors import InputError
from hfdn_deploy.images.format import Format, Header


class Avif(Format):
    """AVIF, by Pillow."""

    name = "AVIF"
    suffixes = (".avif",)
    signature = b"....ftyp.{0,48}avi[fs]"
    pillow = AvifImageFile
    max_side = 32_768
    lossy = True

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


def _depth(file: BinaryIO) -> int:
    """Bits a channel by the pixel information box (ISO/IEC 23008-12, 6.5.6); 8 without one."""
    file.seek(0)
    found = re.search(rb"pixi....(.)(.)", file.read(1 << 16), re.DOTALL)
    return found[2][0] if found and 1 <= found[1][0] <= 4 else 8
