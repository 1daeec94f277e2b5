"""Metadata of an image file, and its transfer to the upscaled image."""

from dataclasses import dataclass, field, replace
from typing import Any, Self

from hfdn_deploy.images.exif import resized_exif, upright_exif
from hfdn_deploy.images.photoshop import without_thumbnails
from hfdn_deploy.images.xmp import resized_xmp, upright_xmp

Chunk = tuple[bytes, bytes]
"""Type and data of a PNG chunk."""


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """Metadata as the bytes that are stored in a file.

    `Format.holds` lists the fields that a format can hold; `says` is a field's name in warnings.
    """

    icc: bytes | None = field(default=None, metadata={"says": "colour profile"})
    """ICC colour profile."""
    cicp: tuple[int, int] | None = None
    """Colour primaries and transfer of RGB pixels, by their code points in ITU-T H.273."""
    gamma: tuple[Chunk, ...] = ()
    """The chunks gAMA, cHRM and sRGB of a PNG."""
    exif: bytes | None = field(default=None, metadata={"says": "EXIF"})
    """EXIF as a TIFF block; its orientation is 1."""
    xmp: bytes | None = field(default=None, metadata={"says": "XMP"})
    """XMP packet."""
    extended_xmp: bytes | None = field(default=None, metadata={"says": "extended XMP"})
    """The second XMP packet, to which the first refers by its hash."""
    photoshop: bytes | None = field(default=None, metadata={"says": "IPTC"})
    """Photoshop's image resources, with IPTC among them."""
    iptc: bytes | None = field(default=None, metadata={"says": "IPTC"})
    """IPTC records outside Photoshop's image resources."""
    comments: tuple[bytes, ...] = field(default=(), metadata={"says": "comment"})
    texts: tuple[Chunk, ...] = field(default=(), metadata={"says": "PNG text"})
    """Text chunks of a PNG, and its tIME chunk."""
    segments: tuple[Chunk, ...] = field(default=(), metadata={"says": "application data of JPEG"})
    """Other application segments of a JPEG: marker and data."""
    dpi: tuple[float, float] | None = None
    """Dots per inch, horizontal and vertical."""
    aspect: tuple[int, int] | None = None
    """Densities without a unit, horizontal and vertical, of pixels that are not square."""
    size: tuple[int, int] | None = None
    """Width and height in pixels of the image that the metadata describes."""
    lost: tuple[str, ...] = ()
    """Warnings about metadata that cannot be carried over."""

    @property
    def colour(self) -> Self:
        """Only the fields that define the colours of the pixels."""
        return type(self)(icc=self.icc, cicp=self.cicp, gamma=self.gamma)


def metadata_of(
    exif: bytes | None, xmp: Any = None, *, turn: int | None = None, **others: Any
) -> tuple[Metadata, int]:
    """Return the metadata of the upright image, and the orientation 1 to 8 of the stored one.

    Args:
        exif: the EXIF block as it is stored.
        xmp: the packet, bytes or str.
        turn: the orientation, if it is not the one in EXIF.
        others: other fields of `Metadata`.
    """
    upright, orientation = upright_exif(exif)
    if turn is not None:
        orientation = turn
    if exif and upright is None:
        others["lost"] = (
            *others.get("lost", ()),
            "the EXIF of the source is damaged and left out",
        )
    xmp = xmp.encode() if isinstance(xmp, str) else xmp
    metadata = Metadata(exif=upright, xmp=xmp or None, **others)
    if orientation != 1:
        metadata = replace(
            metadata,
            xmp=metadata.xmp and upright_xmp(metadata.xmp),
            photoshop=metadata.photoshop and without_thumbnails(metadata.photoshop),
        )
    return metadata, orientation


def for_size(metadata: Metadata, width: int, height: int) -> Metadata:
    """Return metadata with all sizes in pixels updated for an image of this size."""
    before = metadata.size or (width, height)
    return replace(
        metadata,
        exif=metadata.exif and resized_exif(metadata.exif, width, height),
        xmp=metadata.xmp and resized_xmp(metadata.xmp, before, (width, height)),
        size=(width, height),
    )


def valid_dpi(dpi: Any) -> tuple[float, float] | None:
    """Return two densities as floats, or None if they are invalid or implausible."""
    try:
        x, y = map(float, dpi)
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        return None
    return (x, y) if all(0.5 <= value < 1e5 for value in (x, y)) else None


def valid_aspect(x: int, y: int) -> tuple[int, int] | None:
    """Return two densities without a unit; None if they are invalid or equal."""
    return (x, y) if 0 < x < 2**16 and 0 < y < 2**16 and x != y else None
