"""Files full of damaged metadata, which is carried over or left out."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfdn_deploy import InputError
from hfdn_deploy.images import Metadata, encode_image, read_header, write_image
from tests.helpers.exif import camera_exif
from tests.helpers.images import chunk
from tests.helpers.metadata import SRGB
from tests.helpers.mutations import damaged
from tests.helpers.profiles import fuzz

TARGETS = ("a.png", "a.jpg", "a.webp", "a.tif", "a.avif", "a.bmp")
PIXELS = np.zeros((2, 3, 3), np.uint8)
PACKET = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
    b'syntax-ns#"><rdf:Description rdf:about="" xmlns:GPano="http://ns.google.com/photos/1.0/'
    b'panorama/" tiff:Orientation="6" tiff:ImageWidth="3" GPano:FullPanoWidthPixels="30">%s'
    b"</rdf:Description></rdf:RDF></x:xmpmeta>"
)
IPTC = b"\x1c\x02\x05\x00\x03Cat"
RESOURCES = b"8BIM\x04\x04\0\0\0\0\0\x08" + IPTC + b"8BIM\x04\x0c\0\0\0\0\0\x02ab"
RAW = b"Raw profile type iptc\0\niptc\n%8d\n%s\n" % (len(RESOURCES), RESOURCES.hex().encode())
FULL = Metadata(
    xmp=PACKET % b"", photoshop=RESOURCES, iptc=IPTC, comments=(b"Home",), size=(3, 2),
    segments=((b"\xe9", b"Media Jukebox\0"),), aspect=(2, 1),
    texts=((b"tEXt", b"Title\0A cat"), (b"tEXt", RAW), (b"iTXt", b"Comment\0\0\0\0\0Home")),
    gamma=((b"gAMA", (50_000).to_bytes(4)), (b"cHRM", bytes(range(1, 33)))),
)  # fmt: skip
# Each block also with XMP that is too long for a JPEG segment, and with colour in three forms.
KINDS = [
    Metadata(**{**vars(FULL), "exif": camera_exif(order, 6, 3, 2), **colour, **more})
    for order in "<>"
    for colour in ({}, {"icc": SRGB}, {"cicp": (9, 16)})
    for more in ({}, {"xmp": PACKET % (b"x" * 70_000)})
]


def seeds() -> list[bytes]:
    """Return an intact file of every format, with all the metadata that it can hold."""
    return [encode_image(PIXELS, Path(target), kind) for target in TARGETS for kind in KINDS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@fuzz(4000)
@given(data=damaged(seeds()), target=st.sampled_from(TARGETS), grey=st.booleans())
def test_any_metadata_is_carried_over_or_left_out(data, target, grey, folder):
    source = folder / "image"
    source.write_bytes(data)
    try:
        header = read_header(source)
    except InputError:
        return
    image = np.zeros((20, 30) if grey else (20, 30, 3), np.uint8)
    write_image(folder / target, image, header.metadata)
    written = read_header(folder / target)
    assert (written.width, written.height) == (30, 20)
    assert written.orientation == 1


@fuzz(2000)
@given(
    xmp=damaged([PACKET % b"", PACKET % b"<tiff:ImageLength>2</tiff:ImageLength>"]),
    photoshop=damaged([RESOURCES]),
    text=damaged([RAW, b"Comment\0\0\1\0\0\0Home"]),
    target=st.sampled_from(TARGETS),
)
def test_any_bytes_for_xmp_iptc_and_texts(xmp, photoshop, text, target, folder):
    full = Metadata(xmp=xmp, photoshop=photoshop, size=(3, 2))
    write_image(folder / "a.jpg", PIXELS, full)
    data = bytearray(encode_image(PIXELS, Path("a.png"), full))
    data[33:33] = chunk(b"tEXt", text) + chunk(b"iTXt", text) + chunk(b"zTXt", text)
    (folder / "b.png").write_bytes(data)
    for source in ("a.jpg", "b.png"):
        metadata = read_header(folder / source).metadata
        write_image(folder / target, np.zeros((20, 30, 3), np.uint8), metadata)
        assert read_header(folder / target).width == 30
        write_image(folder / "a.jpg", PIXELS, full)
