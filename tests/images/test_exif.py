import io
import json
import shutil
import subprocess

import numpy as np
import pytest
import tifffile
from PIL import Image

from hfdn_deploy.images import read_header, read_image, write_image
from tests.helpers.exif import ARTIST, COMMENT, NOTE_PLACE, NOTE_TEXT, camera_exif

SIZE = HEIGHT, WIDTH = 12, 16
# Tags that may differ in exiftool's output: those of the file itself, of sizes, of the applied
# orientation and the thumbnail that it turned, and of a TIFF's pixels.
EXPECTED = (
    "SourceFile", "ExifTool:", "System:", "File:", "JFIF:", "Composite:", "PNG:", "RIFF:",
    "QuickTime:", "Meta:", "IFD1:", "ExifIFD:ExifImage", "IFD0:Orientation", "IFD0:Image",
    "IFD0:Bits", "IFD0:Comp", "IFD0:Photo", "IFD0:Strip", "IFD0:Samp", "IFD0:Rows", "IFD0:Planar",
    "IFD0:Pred",
)  # fmt: skip


def save(path, block, **options):
    image = np.zeros((*SIZE, 3), np.uint8)
    image[0, 0] = 255
    Image.fromarray(image).save(path, exif=b"Exif\0\0" + block, **options)


def upscaled(source, target):
    header = read_header(source)
    image = np.zeros((2 * header.height, 2 * header.width, 3), np.uint8)
    write_image(target, image, header.metadata)
    return header


def stored(path):
    with Image.open(path) as image:
        return image.info["exif"].removeprefix(b"Exif\0\0")


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("target", ["b.jpg", "b.png", "b.webp"])
def test_bytes_are_kept_but_for_orientation_and_sizes(tmp_path, order, orientation, target):
    save(tmp_path / "a.jpg", camera_exif(order, orientation, WIDTH, HEIGHT))
    upscaled(tmp_path / "a.jpg", tmp_path / target)
    applied = 1 if orientation == 1 else -1
    sides = (2 * WIDTH, 2 * HEIGHT) if orientation == 1 else (2 * HEIGHT, 2 * WIDTH)
    assert stored(tmp_path / target) == camera_exif(order, applied, *sides)


@pytest.mark.parametrize("order", "<>")
def test_a_tiff_holds_the_block_at_its_places(tmp_path, order):
    save(tmp_path / "a.jpg", camera_exif(order, 6, WIDTH, HEIGHT))
    upscaled(tmp_path / "a.jpg", tmp_path / "b.tif")
    data = (tmp_path / "b.tif").read_bytes()
    assert data[NOTE_PLACE + 18 : NOTE_PLACE + 50] == NOTE_TEXT
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        tags = file.pages.first.tags
        assert tags["Make"].value == "Canon"
        assert tags["Orientation"].value == 1
        assert ARTIST in data
        details = tags["ExifTag"].value
        assert COMMENT in data
        assert details["MakerNote"][18:] == NOTE_TEXT
        assert (details["PixelXDimension"], details["PixelYDimension"]) == (2 * HEIGHT, 2 * WIDTH)
        assert b"R03\0" in data
        np.testing.assert_array_equal(file.asarray(), np.zeros((2 * WIDTH, 2 * HEIGHT, 3)))
    np.testing.assert_array_equal(read_image(tmp_path / "b.tif"), np.zeros((32, 24, 3)))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_tiff_in_either_order_of_bytes(tmp_path, order, dtype):
    save(tmp_path / "a.jpg", camera_exif(order, 1, WIDTH, HEIGHT))
    pixels = np.random.default_rng(0).random((*SIZE, 3))
    pixels = (pixels * (1 if dtype == "float32" else np.iinfo(dtype).max)).astype(dtype)
    write_image(tmp_path / "b.tif", pixels, read_header(tmp_path / "a.jpg").metadata)
    assert (tmp_path / "b.tif").read_bytes()[:2] == {"<": b"II", ">": b"MM"}[order]
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), pixels)
    np.testing.assert_array_equal(read_image(tmp_path / "b.tif"), pixels)


@pytest.mark.parametrize("target", ["c.jpg", "c.tif"])
@pytest.mark.parametrize("order", "<>")
def test_the_maker_notes_of_a_tiff_stay_in_place(tmp_path, order, target):
    save(tmp_path / "a.jpg", camera_exif(order, 1, WIDTH, HEIGHT))
    upscaled(tmp_path / "a.jpg", tmp_path / "b.tif")
    upscaled(tmp_path / "b.tif", tmp_path / target)
    data = (tmp_path / target).read_bytes()
    block = data if target == "c.tif" else stored(tmp_path / target)
    assert block[NOTE_PLACE + 18 : NOTE_PLACE + 50] == NOTE_TEXT
    assert COMMENT in block
    assert b"R03\0" in block


def test_maker_notes_far_into_a_tiff_move_with_a_warning(tmp_path, caplog):
    save(tmp_path / "a.jpg", camera_exif("<", 1, WIDTH, HEIGHT))
    upscaled(tmp_path / "a.jpg", tmp_path / "b.tif")
    # Move the block behind 64 KiB of other bytes.
    data = bytearray((tmp_path / "b.tif").read_bytes())
    place = data.find((0x927C).to_bytes(2, "little")) + 8
    note = data[NOTE_PLACE : NOTE_PLACE + 50]
    data += bytes(2**16) + note
    data[place : place + 4] = (len(data) - 50).to_bytes(4, "little")
    (tmp_path / "b.tif").write_bytes(data)
    upscaled(tmp_path / "b.tif", tmp_path / "c.jpg")
    assert "c.jpg: the maker notes have moved" in caplog.text
    assert bytes(note) in stored(tmp_path / "c.jpg")


def test_the_tags_of_a_bigtiff_are_kept(tmp_path, photo):
    tags = [(315, "s", 0, "Somebody", True), (33432, "s", 0, "Them", True)]
    tifffile.imwrite(
        tmp_path / "a.tif", photo, bigtiff=True, extratags=tags,
        photometric="rgb", resolution=(300, 150), description="A cat", metadata=None,
    )  # fmt: skip
    metadata = read_header(tmp_path / "a.tif").metadata
    assert metadata.dpi == (300, 150)
    for target in ("b.jpg", "b.tif"):
        write_image(tmp_path / target, photo, metadata)
        with Image.open(tmp_path / target) as image:
            found = image.getexif()
            assert [found[tag] for tag in (270, 315, 33432)] == ["A cat", "Somebody", "Them"]


def test_a_georeference_is_left_out_with_a_warning(tmp_path, photo, caplog):
    scale = [(33550, "d", 3, (1.0, 1.0, 0.0), True)]
    tifffile.imwrite(tmp_path / "a.tif", photo, photometric="rgb", extratags=scale)
    write_image(tmp_path / "b.tif", photo, read_header(tmp_path / "a.tif").metadata)
    assert "b.tif: the georeference" in caplog.text
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert 33550 not in file.pages.first.tags


def test_smaller_copies_in_a_tiff_are_left_out_with_a_warning(tmp_path, photo, caplog):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(photo, photometric="rgb", subifds=1)
        file.write(photo[::2, ::2], photometric="rgb", subfiletype=1)
    write_image(tmp_path / "b.tif", photo, read_header(tmp_path / "a.tif").metadata)
    assert "b.tif: smaller copies of the source are left out" in caplog.text


def test_colours_of_a_tiff_are_kept(tmp_path, photo):
    white = (31, 100, 33, 100)
    red, green, blue = (64, 100, 33, 100), (30, 100, 60, 100), (15, 100, 6, 100)
    tags = [(318, "2I", 2, white, True), (319, "2I", 6, (*red, *green, *blue), True)]
    tifffile.imwrite(tmp_path / "a.tif", photo, photometric="rgb", extratags=tags)
    for target in ("b.tif", "b.jpg"):
        write_image(tmp_path / target, photo, read_header(tmp_path / "a.tif").metadata)
        with Image.open(tmp_path / target) as image:
            found = image.getexif()
            assert [float(value) for value in found[318]] == [0.31, 0.33]
            assert [float(value) for value in found[319]] == [0.64, 0.33, 0.3, 0.6, 0.15, 0.06]


def exiftool(*paths):
    command = ["exiftool", "-j", "-a", "-G1", "-u", "-b", *paths]
    done = subprocess.run(command, capture_output=True, check=True)
    return [
        {name: value for name, value in found.items() if not name.startswith(EXPECTED)}
        for found in json.loads(done.stdout)
    ]


@pytest.mark.skipif(not shutil.which("exiftool"), reason="exiftool is not installed")
@pytest.mark.parametrize("source", ["a.jpg", "a.tif"])
def test_exiftool_finds_the_same(tmp_path, source):
    """Each target format is written from a JPEG, and from a TIFF made from a JPEG."""
    save(tmp_path / "first.jpg", camera_exif(">", 6, WIDTH, HEIGHT))
    upscaled(tmp_path / "first.jpg", tmp_path / source)
    targets = [tmp_path / f"b.{suffix}" for suffix in ("jpg", "png", "webp", "tif", "avif")]
    for target in targets:
        upscaled(tmp_path / source, target)
    before, *others = exiftool(tmp_path / "first.jpg", *targets)
    assert before["IFD0:Artist"] == "J\u00fcrgen"
    assert before["ExifIFD:UserComment"] == "Schritte: 20, \u00e9"
    assert before["Canon:CanonImageType"] == "IMG:TestCam JPEG"
    assert before["InteropIFD:InteropIndex"].startswith("R03")
    for after in others:
        assert after == before
