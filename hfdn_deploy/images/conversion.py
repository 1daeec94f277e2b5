"""Colour that becomes sRGB when it is read: CMYK and CIE L*a*b*."""

import io

from PIL import Image as PillowImage
from PIL import ImageCms

CONVERTED = ("CMYK", "LAB")
"""Pillow's modes of such images."""


def to_srgb(image: PillowImage.Image, profile: bytes | None) -> tuple[PillowImage.Image, str]:
    """Convert CMYK by its profile, and L*a*b* (D50) by its definition, to sRGB.

    As in print programs: colours that both spaces hold stay, and black becomes black.

    Args:
        image: of a mode in `CONVERTED`.
        profile: ICC profile of CMYK, if there is one.

    Returns:
        An image of mode RGB, and what was done, to stand behind the file's name.
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
            raise ImportError  # it is None only where an image is changed in place
        return converted, f"{name} is converted to sRGB{by}"
    except (ImageCms.PyCMSError, ImportError, OSError):
        kind = "an unusable" if profile else "no"
        return image.convert("RGB"), f"{name} with {kind} profile is converted by a rough formula"
