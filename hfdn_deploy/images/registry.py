"""The known image formats. To add a format, write its class in its own module and list it here."""

import re

from hfdn_deploy.images.avif import Avif
from hfdn_deploy.images.bmp import Bmp
from hfdn_deploy.images.format import Format
from hfdn_deploy.images.gif import Gif
from hfdn_deploy.images.heif import Heif
from hfdn_deploy.images.jpeg import Jpeg
from hfdn_deploy.images.jxl import Jxl
from hfdn_deploy.images.png import Png
from hfdn_deploy.images.tiff import Tiff
from hfdn_deploy.images.webp import WebP

ALL_FORMATS: tuple[type[Format], ...] = (Png, Jpeg, WebP, Tiff, Bmp, Avif, Heif, Gif, Jxl)

FORMATS = {suffix: kind for kind in ALL_FORMATS for suffix in kind.suffixes}
"""Format by suffix."""
IMAGE_SUFFIXES = frozenset(FORMATS)

SIGNATURE_BYTES = 64
"""Length of a file's start that identifies its format."""


def format_of(start: bytes) -> type[Format] | None:
    """Return the format of a file by its first bytes, whatever its suffix; None if it is unknown.

    Args:
        start: at least `SIGNATURE_BYTES` of the file, or all of it if it is shorter.
    """
    for kind in ALL_FORMATS:
        if re.match(kind.signature, start[:SIGNATURE_BYTES], re.DOTALL):
            return kind
    return None
