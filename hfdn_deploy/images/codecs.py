"""Checks for optional packages and for codecs of libtiff, and silencing of libtiff."""

import ctypes
import logging
from contextlib import suppress
from importlib.util import find_spec

from PIL import _imaging

from hfdn_deploy.errors import InputError

_LIBTIFF: ctypes.CDLL | None = None
with suppress(OSError, AttributeError):
    # The names are also looked up in the libraries that Pillow is linked with.
    _LIBTIFF = ctypes.CDLL(_imaging.__file__)
    # It would print to stderr what Pillow's exception already says.
    _LIBTIFF.TIFFSetErrorHandler(None)
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


def check_installed(what: str, extra: str, *packages: str) -> None:
    """Refuse a kind of image if a package that reads it is missing.

    Args:
        what: the kind of image, such as "a 12-bit JPEG".
        extra: the extra of hfdn-deploy that installs the packages.
        packages: their import names.

    Raises:
        InputError: a package is missing.
    """
    if not all(map(find_spec, packages)):
        raise InputError(
            f"is {what}, which needs an optional package; pip install 'hfdn-deploy[{extra}]', or "
            "convert it to PNG"
        )


def libtiff_decodes(compression: int) -> bool:
    """Return whether Pillow's libtiff has a codec; False if libtiff is not accessible."""
    try:
        return bool(_LIBTIFF and _LIBTIFF.TIFFIsCODECConfigured(ctypes.c_uint16(compression)))
    except AttributeError:
        return False
