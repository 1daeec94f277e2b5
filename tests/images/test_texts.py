"""XMP, IPTC, comments and densities: kept if the format can hold them, else a warning."""

import struct
from hashlib import md5

import numpy as np
import pytest
import tifffile
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from hfdn_deploy.images import Metadata, read_header, write_image
from hfdn_deploy.images.metadata import for_size
from tests.helpers.images import chunk, png
from tests.helpers.metadata import exif

PIXELS = np.zeros((12, 16, 3), np.uint8)
IPTC = b"\x1c\x02\x05\x00\x03Cat\x1c\x02\x19\x00\x03fur"
RESOURCES = b"8BIM\x04\x04\x00\x00" + struct.pack(">I", len(IPTC)) + IPTC
OTHER_RESOURCE = b"8BIM\x03\xf3\x00\x00" + struct.pack(">I", 4) + b"ABCD"
PACKET = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
    b'syntax-ns#"><rdf:Description rdf:about="" %s</rdf:Description></rdf:RDF></x:xmpmeta>'
)
TIFF, GPANO = b"http://ns.adobe.com/tiff/1.0/", b"http://ns.google.com/photos/1.0/panorama/"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'xmlns:tiff="%s" tiff:ImageWidth="16">' % TIFF, b'"%s" tiff:ImageWidth="64">' % TIFF),
        (b'xmlns:t="%s"><t:ImageLength>12</t:ImageLength>' % TIFF, b"<t:ImageLength>36</t:Im"),
        (b"exif:PixelXDimension='16'>", b"exif:PixelXDimension='64'>"),
        (b'xmlns:g="%s" g:FullPanoWidthPixels="160">' % GPANO, b'FullPanoWidthPixels="640">'),
        (b"><GPano:CroppedAreaTopPixels>5</GPano:CroppedAreaTopPixels>", b"Pixels>15</GPano"),
        (b'dc:width="16" my:ImageWidth="16">', b'dc:width="16" my:ImageWidth="16">'),
    ],
)
def test_sizes_in_xmp_are_those_of_the_larger_image(before, after):
    metadata = for_size(Metadata(xmp=PACKET % before, size=(16, 12)), 64, 36)
    assert after in metadata.xmp
    assert len(metadata.xmp) - len(PACKET % before) in (0, 1)


@pytest.mark.parametrize("block", [None, exif(1)])
def test_an_orientation_in_xmp_alone_is_left_alone(tmp_path, block):
    """Viewers follow EXIF alone."""
    packet = PACKET % b'tiff:Orientation="6">'
    options = {"exif": block} if block else {}
    Image.fromarray(PIXELS).save(tmp_path / "a.jpg", xmp=packet, **options)
    header = read_header(tmp_path / "a.jpg")
    assert (header.width, header.orientation) == (16, 1)
    assert header.metadata.xmp == packet


def extended_jpeg(path):
    """Write a JPEG whose second XMP packet takes two segments, stored in the wrong order."""
    inside = b'xmlns:a="urn:a"><a:long>%s</a:long>' % (b"x" * 100_000)
    extended = PACKET % inside
    guid = md5(extended).hexdigest().upper().encode()
    note = b'xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="%s">' % guid
    parts = [(0, extended[:65_000]), (65_000, extended[65_000:])]
    segments = [
        b"http://ns.adobe.com/xmp/extension/\0" + guid + struct.pack(">II", len(extended), i) + part
        for i, part in reversed(parts)
    ]
    extra = b"".join(b"\xff\xe1" + struct.pack(">H", 2 + len(s)) + s for s in segments)
    Image.fromarray(PIXELS).save(path, xmp=PACKET % note, extra=extra)
    return PACKET % note, extended


def test_extended_xmp_of_a_jpeg(tmp_path):
    main, extended = extended_jpeg(tmp_path / "a.jpg")
    metadata = read_header(tmp_path / "a.jpg").metadata
    assert (metadata.xmp, metadata.extended_xmp) == (main, extended)
    write_image(tmp_path / "b.jpg", PIXELS, metadata)
    assert read_header(tmp_path / "b.jpg").metadata.extended_xmp == extended
    write_image(tmp_path / "b.png", PIXELS, metadata)
    joined = read_header(tmp_path / "b.png").metadata.xmp
    assert b"<a:long>xxx" in joined
    assert b"HasExtendedXMP" not in joined
    # Back to JPEG, where it is too long for one segment.
    write_image(tmp_path / "c.jpg", PIXELS, read_header(tmp_path / "b.png").metadata)
    again = read_header(tmp_path / "c.jpg").metadata
    assert again.extended_xmp == joined
    assert md5(joined).hexdigest().upper().encode() in again.xmp


def jpeg_with(path, marker, data):
    extra = b"\xff" + bytes([marker]) + struct.pack(">H", 2 + len(data)) + data
    Image.fromarray(PIXELS).save(path, extra=extra)


def with_iptc(path):
    if path.suffix == ".jpg":
        jpeg_with(path, 0xED, b"Photoshop 3.0\0" + RESOURCES + OTHER_RESOURCE)
    elif path.suffix == ".tif":
        tags = [(33723, "B", len(IPTC), IPTC, True)]
        tags.append((34377, "B", len(OTHER_RESOURCE), OTHER_RESOURCE, True))
        tifffile.imwrite(path, PIXELS, photometric="rgb", extratags=tags)
    else:
        info, resources = PngInfo(), RESOURCES + OTHER_RESOURCE
        text = f"\niptc\n{len(resources):8}\n{resources.hex()}\n"
        info.add_text("Raw profile type iptc", text)
        Image.fromarray(PIXELS).save(path, pnginfo=info)


@pytest.mark.parametrize("source", ["a.jpg", "a.png", "a.tif"])
@pytest.mark.parametrize("target", ["b.jpg", "b.png", "b.tif"])
def test_iptc_goes_from_every_format_to_every_other(tmp_path, source, target):
    with_iptc(tmp_path / source)
    write_image(tmp_path / target, PIXELS, read_header(tmp_path / source).metadata)
    if target == "b.tif":
        with tifffile.TiffFile(tmp_path / target) as file:
            tags = file.pages.first.tags
            assert tags[33723].value == IPTC
            assert tags[34377].value == OTHER_RESOURCE
        return
    written = read_header(tmp_path / target).metadata.photoshop
    assert written == RESOURCES + OTHER_RESOURCE
    if target == "b.jpg":
        with Image.open(tmp_path / target) as image:
            assert image.info["photoshop"][0x0404] == IPTC


@pytest.mark.parametrize(
    ("marker", "data", "target", "told"),
    [
        (0xED, b"Photoshop 3.0\0" + RESOURCES, "b.webp", "WebP cannot hold it: IPTC"),
        (0xFE, b"Home", "b.webp", "WebP cannot hold it: comment"),
        (0xFE, b"Home", "b.tif", "TIFF cannot hold it: comment"),
        (0xE9, b"Media Jukebox\0x", "b.png", "PNG cannot hold it: application data of JPEG"),
        (0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>", "b.bmp", "BMP cannot hold it: XMP"),
    ],
)
def test_what_a_format_cannot_hold_is_told(tmp_path, caplog, marker, data, target, told):
    jpeg_with(tmp_path / "a.jpg", marker, data)
    metadata = read_header(tmp_path / "a.jpg").metadata
    write_image(tmp_path / target, PIXELS, metadata)
    assert caplog.messages == [f"{tmp_path / target}: left out because {told}"]
    caplog.clear()
    write_image(tmp_path / "b.jpg", PIXELS, metadata)
    assert data in (tmp_path / "b.jpg").read_bytes()
    assert not caplog.messages


@pytest.mark.parametrize("coding", ["utf-8", "latin-1"])
def test_comments_of_a_jpeg_are_texts_of_a_png(tmp_path, caplog, coding):
    comment = "Gr\u00fc\u00dfe".encode(coding)
    jpeg_with(tmp_path / "a.jpg", 0xFE, comment)
    write_image(tmp_path / "b.png", PIXELS, read_header(tmp_path / "a.jpg").metadata)
    with Image.open(tmp_path / "b.png") as image:
        assert image.text["Comment"] == "Gr\u00fc\u00dfe"
    write_image(tmp_path / "c.jpg", PIXELS, read_header(tmp_path / "b.png").metadata)
    with Image.open(tmp_path / "c.jpg") as image:
        assert image.info["comment"] == comment
    assert not caplog.messages


def test_segments_behind_one_that_is_longer_than_it_says(tmp_path):
    jpeg_with(tmp_path / "a.jpg", 0xFE, b"Home")
    data = (tmp_path / "a.jpg").read_bytes()
    too_long = b"\xff\xed\0\x06ABCD" + b"\0junk" * 30
    (tmp_path / "a.jpg").write_bytes(data[:20] + too_long + data[20:])
    assert read_header(tmp_path / "a.jpg").metadata.comments == (b"Home",)


def test_bytes_behind_a_jpeg_are_told(tmp_path, caplog):
    """The video of a motion photo is such a case."""
    Image.fromarray(PIXELS).save(tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    for behind, told in ((b"", 0), (bytes(100), 0), (b"MotionPhoto_Data", 1)):
        (tmp_path / "a.jpg").write_bytes(data + behind)
        caplog.clear()
        write_image(tmp_path / "b.jpg", PIXELS, read_header(tmp_path / "a.jpg").metadata)
        assert len(caplog.messages) == told
    assert "b.jpg: 16 bytes behind the pixels of the source" in caplog.text


def with_aspect(path):
    if path.suffix == ".png":
        path.write_bytes(png(PIXELS, 2, 8, chunk(b"pHYs", struct.pack(">IIB", 2, 1, 0))))
    elif path.suffix == ".tif":
        tifffile.imwrite(path, PIXELS, photometric="rgb", resolution=(2, 1), resolutionunit=1)
    else:
        Image.fromarray(PIXELS).save(path)
        data = bytearray(path.read_bytes())
        data[13:18] = struct.pack(">BHH", 0, 2, 1)
        path.write_bytes(data)


@pytest.mark.parametrize("source", ["a.jpg", "a.png", "a.tif"])
@pytest.mark.parametrize("target", ["b.jpg", "b.png", "b.tif"])
def test_pixels_that_are_no_squares_stay_so(tmp_path, source, target):
    with_aspect(tmp_path / source)
    write_image(tmp_path / target, PIXELS, read_header(tmp_path / source).metadata)
    data = (tmp_path / target).read_bytes()
    if target == "b.png":
        assert chunk(b"pHYs", struct.pack(">IIB", 2, 1, 0)) in data
    elif target == "b.jpg":
        assert data[13:18] == struct.pack(">BHH", 0, 2, 1)
        assert data[-2:] == b"\xff\xd9"
    else:
        with tifffile.TiffFile(tmp_path / target) as file:
            assert file.pages.first.resolution == (2, 1)
            assert file.pages.first.resolutionunit == 1
