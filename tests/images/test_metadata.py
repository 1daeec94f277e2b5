import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from hfdn_deploy import InputError
from hfdn_deploy.images import read_header, read_image, upright_exif, write_image
from hfdn_deploy.images.icc import profile_of_cicp
from hfdn_deploy.images.metadata import Metadata
from tests.helpers.images import chunk
from tests.helpers.metadata import SRGB, XMP, as_shown, exif

WITH_EXIF = ["a.jpg", "a.png", "a.webp", "a.avif", "a.tif"]


def save(path, photo, orientation=6):
    """Write a file with Pillow, with all metadata that its format can hold."""
    extra = PngInfo()
    extra.add_text("Title", "A cat")
    extra.add_text("Long", "x" * 2000, zip=True)
    extra.add_itxt("XML:com.adobe.xmp", XMP.decode())
    extra.add(b"gAMA", struct.pack(">I", 45455))
    options = {"exif": exif(orientation), "icc_profile": SRGB, "xmp": XMP, "dpi": (300, 150)}
    options |= {"pnginfo": extra} if path.suffix == ".png" else {}
    options |= {"lossless": True} if path.suffix == ".webp" else {}
    if path.suffix == ".tif":
        del options["xmp"]
        options["exif"][700] = XMP
    Image.fromarray(photo).save(path, **options)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", WITH_EXIF)
def test_orientation_is_applied_in_every_format(tmp_path, photo, name, orientation):
    save(tmp_path / name, photo, orientation)
    flipped = photo[:, ::-1]
    upright = {
        1: photo, 2: flipped, 3: np.rot90(photo, 2), 4: photo[::-1], 5: np.rot90(flipped),
        6: np.rot90(photo, -1), 7: np.rot90(flipped, -1), 8: np.rot90(photo),
    }[orientation]  # fmt: skip
    image = read_image(tmp_path / name)
    assert image.shape == upright.shape
    tolerance = 12 if name in ("a.jpg", "a.avif") else 0
    assert np.abs(image.astype(float) - upright).mean() <= tolerance
    header = read_header(tmp_path / name)
    assert (header.height, header.width) == upright.shape[:2]


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_deep_tiff(tmp_path, photo, dtype, orientation):
    for name, kind in (("a.tif", dtype), ("b.tif", "uint8")):
        tags = [(274, "H", 1, orientation, True)]
        tifffile.imwrite(tmp_path / name, photo.astype(kind), photometric="rgb", extratags=tags)
    deep, shallow = (read_image(tmp_path / name) for name in ("a.tif", "b.tif"))
    np.testing.assert_array_equal(deep, shallow)
    assert read_header(tmp_path / "a.tif").height == deep.shape[0]


@pytest.mark.parametrize("source", WITH_EXIF)
@pytest.mark.parametrize("target", WITH_EXIF)
def test_metadata_goes_from_every_format_to_every_other(tmp_path, photo, source, target):
    (tmp_path / "out").mkdir()
    save(tmp_path / source, photo)
    big = np.tile(read_image(tmp_path / source), (2, 2, 1))
    write_image(tmp_path / "out" / target, big, read_header(tmp_path / source).metadata)
    with Image.open(tmp_path / "out" / target) as image:
        details = dict(image.getexif().get_ifd(0x8769))  # Pillow loses it when it loads pixels
        place = dict(image.getexif().get_ifd(0x8825))
        image.load()
        assert image.size == (120, 166)
        assert image.info["icc_profile"] == SRGB
        found = image.getexif()
        assert found[0x010F] == "Maker"
        assert bytes(found[0x9C9B]).decode("utf-16-le") == "Title\0"
        assert found.get(0x0112, 1) == 1
        assert details[0x829A] == pytest.approx(1 / 250)
        assert details[0xA002] == 120
        assert place[0x001D] == "2020:10:25"
        xmp = image.info.get("XML:com.adobe.xmp") or image.info["xmp"]
        xmp = xmp.encode() if isinstance(xmp, str) else xmp
        assert xmp.rstrip(b"\0") == XMP.replace(b'Orientation="6"', b'Orientation="1"')
        if {source, target} <= {"a.jpg", "a.png", "a.tif"}:
            assert image.info["dpi"] == pytest.approx((300, 150), abs=0.02)
        if source == target == "a.png":
            assert image.text["Title"] == "A cat"
            assert image.text["Long"] == "x" * 2000
            assert image.info["gamma"] == pytest.approx(0.45455)
    np.testing.assert_array_equal(read_image(tmp_path / "out" / target).shape, big.shape)


@pytest.mark.parametrize("compress", [False, True])
def test_exif_and_xmp_in_the_texts_of_a_png(tmp_path, photo, compress):
    """ImageMagick wrote EXIF so before PNG had a chunk for it."""
    block = exif(6).tobytes()
    assert block.startswith(b"Exif")
    digits = "\n".join(block.hex()[i : i + 72] for i in range(0, 2 * len(block), 72))
    extra = PngInfo()
    extra.add_text("Title", "A cat", zip=compress)
    extra.add_text("Raw profile type exif", f"\nexif\n{len(block):8}\n{digits}\n", zip=compress)
    extra.add_itxt("XML:com.adobe.xmp", XMP.decode(), zip=compress)
    Image.fromarray(photo).save(tmp_path / "a.png", pnginfo=extra)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.rot90(photo, -1))
    kept = read_header(tmp_path / "a.png").metadata
    assert b"Maker" in kept.exif
    assert kept.xmp == XMP.replace(b'"6"', b'"1"')
    assert [data[:5] for _, data in kept.texts] == [b"Title"]


@pytest.mark.parametrize("text", ["", "\nexif\n 4\nzz", "\nexif\n 4\n1", "\nexif\n 9\nab"])
def test_texts_that_are_no_exif(tmp_path, photo, text):
    extra = PngInfo()
    extra.add_text("Raw profile type exif", text)
    extra.add(b"zTXt", b"Raw profile type exif\0\0nonsense")
    extra.add(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0nonsense")
    Image.fromarray(photo).save(tmp_path / "a.png", pnginfo=extra)
    try:
        np.testing.assert_array_equal(read_image(tmp_path / "a.png"), photo)
    except InputError as error:
        assert "damaged" in str(error)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("a.png", chunk(b"gAMA", b"")),
        ("a.png", chunk(b"cHRM", b"\0")),
        ("a.png", chunk(b"zTXt", b"Title\0\x0anonsense")),
        ("a.jpg", b"\xff\xed\0\x18Photoshop 3.0\x008BIM\x04\x04\x00\x05"),
        ("a.jpg", b"\xff\xe2\0\x08MPF\0II"),
    ],
)
def test_wrong_metadata_cost_themselves_alone(tmp_path, photo, name, wrong):
    """Pillow refuses these files, pixels included."""
    path = tmp_path / name
    Image.fromarray(photo).save(path, **({"comment": b"Home"} if name == "a.jpg" else {}))
    data = path.read_bytes()
    expected = read_image(path)
    place = 33 if name == "a.png" else 20  # behind the header
    path.write_bytes(data[:place] + wrong + data[place:])
    np.testing.assert_array_equal(read_image(path), expected)
    assert read_header(path).metadata.comments == ((b"Home",) if name == "a.jpg" else ())


@pytest.mark.parametrize("last", [False, True])
def test_texts_and_profiles_of_more_than_1_mib(tmp_path, photo, last):
    """Pillow refuses these files: on opening, or after decoding if the text follows the pixels."""
    extra = PngInfo()
    text = b"Workflow\0\0" + zlib.compress(bytes(2**20 + 1))
    extra.add(b"zTXt", text, after_idat=last)
    profile = np.random.default_rng(0).bytes(2**20 + 1)
    Image.fromarray(photo).save(tmp_path / "a.png", pnginfo=extra, icc_profile=profile)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), photo)
    kept = read_header(tmp_path / "a.png").metadata
    assert kept.icc == profile
    assert [data[:8] for _, data in kept.texts] == [b"Workflow"]


@pytest.mark.parametrize(("name", "dtype"), [("a.png", "uint16"), ("a.tif", "float32")])
def test_metadata_of_deep_files(tmp_path, photo, name, dtype):
    save(tmp_path / "a.jpg", photo)
    kept = read_header(tmp_path / "a.jpg").metadata
    write_image(tmp_path / name, (photo / 255).astype(dtype), kept)
    again = read_header(tmp_path / name).metadata
    assert again.icc == kept.icc
    assert again.xmp == kept.xmp
    assert again.dpi == pytest.approx(kept.dpi, abs=0.02)
    assert b"Maker" in again.exif


@pytest.mark.parametrize(
    ("source", "pixels", "target", "space"),
    [
        ("a.png", "grey", "b.png", b"GRAY"),  # as if the image was converted to grey
        ("grey.png", "grey", "b.webp", b"RGB "),  # WebP has no grey
    ],
)
def test_a_profile_follows_the_channels(tmp_path, photo, source, pixels, target, space):
    grey = photo[..., 0]
    Image.fromarray(photo).save(tmp_path / "a.png", icc_profile=profile_of_cicp(1, 13, grey=False))
    grey_profile = profile_of_cicp(1, 13, grey=True)
    Image.fromarray(grey).save(tmp_path / "grey.png", icc_profile=grey_profile)
    write_image(tmp_path / target, grey, read_header(tmp_path / source).metadata)
    icc = read_header(tmp_path / target).metadata.icc
    assert icc[16:20] == space
    shown = as_shown(tmp_path / target)
    np.testing.assert_allclose(shown, np.dstack([grey] * 3), atol=1)


def test_a_profile_without_a_curve_is_left_out(tmp_path, photo, caplog):
    profile = bytearray(SRGB)
    profile[16:20] = b"CMYK"
    write_image(tmp_path / "b.png", photo[..., 0], Metadata(icc=bytes(profile[:300])))
    assert "b.png: the colour profile is for other channels and is left out" in caplog.text
    assert read_header(tmp_path / "b.png").metadata.icc is None


def test_what_a_jpeg_cannot_hold_is_left_out(tmp_path, photo, caplog):
    data = exif(1)
    data[0x010E] = "x" * 70_000
    Image.fromarray(photo).save(tmp_path / "a.png", exif=data)
    write_image(tmp_path / "b.jpg", photo, read_header(tmp_path / "a.png").metadata)
    assert "b.jpg: left out because JPEG cannot hold it: EXIF" in caplog.text


def test_damaged_exif_costs_the_exif_alone(tmp_path, photo, caplog):
    assert upright_exif(b"Exif\0\0MM\0*\xff\xff") == (None, 1)
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "PNG", exif=b"Exif\0\0nonsense")
    (tmp_path / "a.png").write_bytes(file.getvalue())
    write_image(tmp_path / "b.png", photo, read_header(tmp_path / "a.png").metadata)
    assert "b.png: the EXIF of the source is damaged" in caplog.text
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), photo)


@pytest.mark.parametrize(
    "tags", [{266: 2}, {322: 16, 323: 16, 324: 8, 325: 9}, {338: 1}, {530: (2, 2), 531: 1}], ids=str
)
def test_tags_about_the_file_do_not_reach_a_tiff(tmp_path, photo, tags):
    data = exif(1)
    for tag, value in tags.items():
        data[tag] = value
    Image.fromarray(photo).save(tmp_path / "a.png", exif=data)
    kept = read_header(tmp_path / "a.png").metadata
    assert b"Maker" in kept.exif
    write_image(tmp_path / "b.tif", photo, kept)
    np.testing.assert_array_equal(read_image(tmp_path / "b.tif"), photo)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), photo)


@pytest.mark.parametrize("density", [((0, 0), (72, 1)), ((72, 1), (0, 0)), ((1, 0), (72, 1))])
@pytest.mark.parametrize("target", ["b.png", "b.tif", "b.jpg", "b.bmp"])
def test_a_density_that_is_no_number_is_left_out(tmp_path, photo, density, target):
    tifffile.imwrite(tmp_path / "a.tif", photo, resolution=(72, 72))
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as file:
        for name, value in zip(("XResolution", "YResolution"), density, strict=True):
            file.pages[0].tags[name].overwrite(value)
    metadata = read_header(tmp_path / "a.tif").metadata
    assert metadata.dpi is None
    write_image(tmp_path / target, photo, metadata)
