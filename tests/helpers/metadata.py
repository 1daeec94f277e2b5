"""EXIF, XMP and a colour profile to write into image files, and colour conversion by profile."""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, TiffImagePlugin

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'


def exif(orientation: int) -> Image.Exif:
    """Return EXIF with a camera, an exposure, a size, a GPS date and this orientation."""
    data = Image.Exif()
    data[0x0112], data[0x010F] = orientation, "Maker"
    data.get_ifd(0x8769).update({0x829A: TiffImagePlugin.IFDRational(1, 250), 0xA002: 83})
    data[0x9C9B] = "Title".encode("utf-16-le") + b"\0\0"  # XPTitle, of Windows
    data.get_ifd(0x8825)[0x001D] = "2020:10:25"
    parsed = Image.Exif()  # Pillow's TIFF writer needs parsed EXIF
    parsed.load(data.tobytes())
    return parsed


def as_shown(path: Path) -> NDArray[np.uint8]:
    """Return a file's pixels (H, W, 3), converted to sRGB by its colour profile."""
    with Image.open(path) as image:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        shown = ImageCms.profileToProfile(
            image, profile, ImageCms.createProfile("sRGB"), intent, "RGB"
        )
        assert shown is not None
        return np.asarray(shown)
