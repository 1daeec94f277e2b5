"""Optional packages that decode what Pillow and OpenCV do not, and what libtiff prints."""

import ctypes
import logging
from contextlib import suppress
from importlib.util import find_spec

from PIL import _imaging

from hfdn_deploy.errors import InputError

_LIBTIFF: ctypes.CDLL | None = None
with suppress(OSError, AttributeError):
    # Looks the names up in what Pillow is linked with, too.
    _LIBTIFF = ctypes.CDLL(_imaging.__file__)
    # It would print on stderr what Pillow's exception says.
    _LIBTIFF.TIFFSetErrorHandler(None)
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


def check_installed(what: str, extra: str, *packages: str) -> None:
    """Refuse a kind of image if a package that reads it is missing.

    Args:
        what: the image is, such as "a 12-bit JPEG".
        extra: that brings the packages.
        packages: by the names they are imported by.

    Raises:
        InputError: one is missing.
    """
    if not all(map(find_spec, packages)):
        raise InputError(
            f"is {what}, which pip install 'hfdn-deploy[{extra}]' reads; or convert it to PNG"
        )


def libtiff_decodes(compression: int) -> bool:
    """Whether Pillow's libtiff has a codec; False where it cannot be asked."""
    try:
        return bool(_LIBTIFF and _LIBTIFF.TIFFIsCODECConfigured(ctypes.c_uint16(compression)))
    except AttributeError:
        return False
