"""BMP."""

from typing import Any

from PIL.BmpImagePlugin import BmpImageFile

from hfdn_deploy.images.format import Format
from hfdn_deploy.images.metadata import Metadata


class Bmp(Format):
    """BMP, by Pillow."""

    name = "BMP"
    suffixes = (".bmp",)
    signature = b"BM"
    pillow = BmpImageFile
    alpha = False
    # The file's size has 32 bits; some room is left for the header.
    max_bytes = 2**32 - 2**24
    holds = frozenset(("dpi",))

    @classmethod
    def _metadata_options(cls, metadata: Metadata) -> dict[str, Any]:
        return {"dpi": metadata.dpi} if metadata.dpi else {}
