"""Conversion of CMYK and CIE L*a*b* to sRGB when an image is read."""

import io

from PIL import Image as PillowImage
from PIL import ImageCms

CONVERTED = ("CMYK", "LAB")
"""Pillow's modes of images that are converted."""


def to_srgb(image: PillowImage.Image, profile: bytes | None) -> tuple[PillowImage.Image, str]:
    """Convert CMYK, by its profile, or L*a*b* (D50) to sRGB.

    The intent is relative colorimetric with black point compensation, as in print programs:
    colours in both gamuts are kept, and black becomes black.

    Args:
        image: of a mode in `CONVERTED`.
        profile: ICC profile of CMYK, if there is one.

    Returns:
        An image of mode RGB, and a note on the conversion, to follow the file's name.
    """
    lab = image.mode == "LAB"
    name, by = ("L*a*b*", "") if lab else ("CMYK", " by its profile")
    try:
        source = ImageCms.createProfile("LAB") if lab else io.BytesIO(profile or b"")
        transform = ImageCms.buildTransform(
            source if lab else ImageCms.ImageCmsProfile(source),
            ImageCms.createProfile("sRGB"),
            image.mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        converted = ImageCms.applyTransform(image, transform)
        if converted is None:
            raise ImportError  # for mypy: it is None only for a conversion in place
        return converted, f"{name} is converted to sRGB{by}"
    except (ImageCms.PyCMSError, ImportError, OSError):
        kind = "an unusable" if profile else "no"
        return image.convert("RGB"), f"{name} with {kind} profile is converted by a rough formula"
