"""What a picture file says beside its pixels, and carrying it over to the upscaled picture."""

import math
import re
from dataclasses import dataclass, replace
from typing import Any

from PIL.ExifTags import IFD, Base
from PIL.Image import Exif

# Of a TIFF's tags only these describe the picture; the others describe the file.
_DESCRIPTIVE = frozenset(
    (
        Base.ImageDescription, Base.Make, Base.Model, Base.Orientation, Base.XResolution,
        Base.YResolution, Base.ResolutionUnit, Base.Software, Base.DateTime, Base.Artist,
        Base.HostComputer, Base.Copyright, Base.Rating, Base.RatingPercent, Base.XPTitle,
        Base.XPComment, Base.XPAuthor, Base.XPKeywords, Base.XPSubject, IFD.Exif, IFD.GPSInfo,
    )
)  # fmt: skip
_TIFF_XMP, _TIFF_ICC = 700, 34675


@dataclass(frozen=True)
class Metadata:
    """All of it as bytes that go into a file, and safe to write: it was parsed or is opaque."""

    icc: bytes | None = None
    """ICC colour profile."""
    exif: bytes | None = None
    """EXIF as a TIFF block; its orientation is 1, and it has no thumbnail."""
    xmp: bytes | None = None
    """XMP packet; its orientation is 1."""
    dpi: tuple[float, float] | None = None
    """Dots per inch, horizontal and vertical."""
    png_chunks: tuple[tuple[bytes, bytes], ...] = ()
    """Text and colour chunks of a PNG by type, which only a PNG can hold."""
    damaged: bool = False
    """Whether there was EXIF that cannot be parsed."""


def for_size(metadata: Metadata, width: int, height: int) -> Metadata:
    """The same, with EXIF that names this size in pixels, if it named one."""
    if metadata.exif is None:
        return metadata
    exif = Exif()
    exif.load(metadata.exif)
    details = exif.get_ifd(IFD.Exif)
    for tag, side in ((Base.ExifImageWidth, width), (Base.ExifImageHeight, height)):
        if tag in details:
            details[tag] = side
    return replace(metadata, exif=_block(exif))


def upright_exif(raw: bytes | None) -> tuple[bytes | None, int]:
    """EXIF with orientation 1 and without a thumbnail, and the orientation 1 to 8 it had.

    EXIF that cannot be parsed is left out: the picture is none the worse. So are tags about the
    file rather than the picture, which would contradict those of a TIFF that they go into.
    """
    if not raw:
        return None, 1
    exif = Exif()
    try:
        exif.load(raw)
        for tag in set(exif) - _DESCRIPTIVE:
            del exif[tag]
        return _upright(exif)
    except Exception:  # Pillow's parser raises nearly anything
        return None, 1


def tiff_metadata(tags: Exif) -> Metadata:
    """Metadata from a TIFF's tags, which are used up."""
    try:
        for tag in set(tags) - _DESCRIPTIVE - {_TIFF_XMP, _TIFF_ICC}:
            del tags[tag]
        icc, xmp = (_bytes(tags.get(tag)) for tag in (_TIFF_ICC, _TIFF_XMP))
        for tag in {_TIFF_XMP, _TIFF_ICC} & set(tags):
            del tags[tag]
        inch = {2: 1.0, 3: 2.54}.get(tags.get(Base.ResolutionUnit, 2), math.nan)
        density = (tags.get(tag) for tag in (Base.XResolution, Base.YResolution))
        dpi = valid_dpi([float(value) * inch if value else 0 for value in density])
        exif, _ = _upright(tags)
    except Exception:  # as above
        return Metadata(damaged=True)
    return Metadata(icc, exif, upright_xmp(xmp), dpi)


def upright_xmp(xmp: Any) -> bytes | None:
    """An XMP packet whose orientation, if it has one, is 1."""
    data = _bytes(xmp)
    return data and re.sub(rb"(tiff:Orientation(?:\s*=\s*[\"']|>))[0-9]", rb"\g<1>1", data)


def valid_dpi(dpi: Any) -> tuple[float, float] | None:
    """Two densities that make sense, or None."""
    try:
        x, y = map(float, dpi)
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        return None
    return (x, y) if all(1 <= value < 1e5 for value in (x, y)) else None


def _upright(exif: Exif) -> tuple[bytes, int]:
    orientation = exif.get(Base.Orientation, 1)
    if Base.Orientation in exif:
        exif[Base.Orientation] = 1
    return _block(exif), orientation if orientation in range(1, 9) else 1


def _block(exif: Exif) -> bytes:
    return exif.tobytes().removeprefix(b"Exif\0\0")


def _bytes(value: Any) -> bytes | None:
    """A tag's value if it is bytes, which Pillow may give as text or as a tuple of numbers."""
    if isinstance(value, str):
        value = value.encode()
    elif isinstance(value, tuple) and all(v in range(256) for v in value):
        value = bytes(value)
    return value if isinstance(value, bytes) and value else None
