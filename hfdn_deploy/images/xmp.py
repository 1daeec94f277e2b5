"""XMP packets; only properties that would become wrong change (XMP specification, part 2).

An orientation that only XMP has is not touched: viewers follow EXIF.
"""

import re
from collections.abc import Callable
from hashlib import md5

_TIFF = "http://ns.adobe.com/tiff/1.0/"
_EXIF = "http://ns.adobe.com/exif/1.0/"
_PANORAMA = "http://ns.google.com/photos/1.0/panorama/"
_NOTE = "http://ns.adobe.com/xmp/note/"
# Sides of the image: namespace, its usual prefix, name, and 0 for width or 1 for height.
_SIDES = (
    (_TIFF, b"tiff", b"ImageWidth", 0),
    (_TIFF, b"tiff", b"ImageLength", 1),
    (_EXIF, b"exif", b"PixelXDimension", 0),
    (_EXIF, b"exif", b"PixelYDimension", 1),
)
# Likewise the properties of Google's "Photo Sphere XMP Metadata" that count pixels.
_PARTS = tuple(
    (_PANORAMA, b"GPano", name, axis)
    for axis, names in enumerate((
        (b"FullPanoWidthPixels", b"CroppedAreaImageWidthPixels", b"CroppedAreaLeftPixels"),
        (b"FullPanoHeightPixels", b"CroppedAreaImageHeightPixels", b"CroppedAreaTopPixels"),
    ))
    for name in names
)  # fmt: skip
_EXTENDED = re.compile(
    rb"\s[\w.-]+:HasExtendedXMP\s*=\s*[\"']([0-9A-F]{32})[\"']"
    rb"|<[\w.-]+:HasExtendedXMP>([0-9A-F]{32})</[\w.-]+:HasExtendedXMP>"
)
_INSIDE = re.compile(rb"<rdf:RDF[^>]*>(.*)</rdf:RDF>", re.DOTALL)


def upright_xmp(xmp: bytes) -> bytes:
    """Return the packet with orientation 1, if it states one."""
    return _replaced(xmp, _TIFF, b"tiff", b"Orientation", lambda _: 1)


def resized_xmp(xmp: bytes, before: tuple[int, int], after: tuple[int, int]) -> bytes:
    """Return the packet with sizes in pixels scaled from one width and height to another."""

    def side(axis: int) -> Callable[[int], int]:
        return lambda _: after[axis]

    def part(axis: int) -> Callable[[int], int]:
        return lambda value: round(value * after[axis] / before[axis])

    for properties, changed in ((_SIDES, side), (_PARTS, part)):
        for uri, prefix, name, axis in properties:
            xmp = _replaced(xmp, uri, prefix, name, changed(axis))
    return xmp


def _replaced(
    xmp: bytes, uri: str, usual: bytes, name: bytes, change: Callable[[int], int]
) -> bytes:
    """Replace the whole number of a property, written as an attribute or as an element."""
    found = re.search(rb"xmlns:([\w.-]+)\s*=\s*[\"']" + re.escape(uri.encode()), xmp)
    key = re.escape((found[1] if found else usual) + b":" + name)
    pattern = rb"(" + key + rb"(?:\s*=\s*[\"']|\s*>)\s*)(\d{1,9})"
    return re.sub(pattern, lambda match: match[1] + str(change(int(match[2]))).encode(), xmp)


def extension_of(xmp: bytes) -> bytes | None:
    """Return the GUID, 32 hexadecimal digits, of the extended packet; None if there is none."""
    found = _EXTENDED.search(xmp)
    return (found[1] or found[2]) if found else None


def joined_xmp(xmp: bytes, extended: bytes) -> bytes | None:
    """Join the two packets of a JPEG; None if they do not have the usual form."""
    inside = _INSIDE.search(extended)
    end = xmp.rfind(b"</rdf:RDF>")
    if inside is None or end < 0:
        return None
    return _EXTENDED.sub(b"", xmp[:end]) + inside[1] + xmp[end:]


def split_xmp(xmp: bytes) -> tuple[bytes, bytes]:
    """Split a packet too long for a JPEG into two (XMP specification, part 3, 1.1.3.1)."""
    guid = md5(xmp, usedforsecurity=False).hexdigest().upper()
    main = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" xmlns:xmpNote="{_NOTE}" xmpNote:HasExtendedXMP="{guid}"/>'
        "</rdf:RDF></x:xmpmeta>"
    )
    return main.encode(), xmp
