import struct

import numpy as np
import pytest
import tifffile
from PIL import ExifTags

from hfdn_deploy.errors import InputError
from hfdn_deploy.images import codecs, open_image, read_header, read_image, size_of
from tests.helpers.images import deep

pytestmark = pytest.mark.usefixtures("small_bands")


@pytest.mark.parametrize(
    ("dtype", "kind", "message"),
    [
        ("float64", {}, "64-bit float"),
        ("float16", {}, "16-bit float"),
        ("int8", {}, "8-bit signed"),
        ("int16", {}, "16-bit signed"),
        ("uint16", {"compression": "lzma"}, "16-bit TIFF in compression 34925"),
        ("uint32", {}, "32-bit unsigned"),
        ("uint16", {"photometric": "miniswhite"}, "layout"),
        ("uint16", {"photometric": "separated"}, "layout"),
        ("uint16", {"planarconfig": "separate"}, "layout"),
        ("uint16", {"extrasamples": ["assocalpha"]}, "layout"),
        ("uint16", {"extrasamples": ["assocalpha"], "photometric": "minisblack"}, "layout"),
        ("uint8", {"bigtiff": True, "byteorder": ">"}, "big-endian BigTIFF"),
    ],
)
def test_a_tiff_that_would_be_misread_is_refused(tmp_path, dtype, kind, message, monkeypatch):
    monkeypatch.setattr(codecs, "find_spec", lambda _: None)
    shape = (20, 21)
    if "planarconfig" in kind:
        shape = (3, 20, 21)
    elif "extrasamples" in kind or kind.get("photometric") == "separated":
        shape = (20, 21, 2 if kind.get("photometric") == "minisblack" else 4)
    kind = {"photometric": "rgb" if len(shape) == 3 else "minisblack", **kind}
    tifffile.imwrite(tmp_path / "a.tif", np.ones(shape, dtype), **kind)
    with pytest.raises(InputError, match=rf"a\.tif (holds|is a) .*{message}"):
        read_image(tmp_path / "a.tif")


def write_tiff(path, image, **kind):
    """Write a TIFF with tags that match the channels of an image."""
    channels = size_of(image)[2]
    if channels in (2, 4):
        kind = {"extrasamples": ["unassalpha"], **kind}
    tifffile.imwrite(path, image, photometric="rgb" if channels > 2 else "minisblack", **kind)


@pytest.mark.parametrize("channels", [2, 3, 4])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize(
    "kind",
    [
        {"compression": "zlib", "predictor": True},
        {"compression": "zlib", "predictor": True, "tile": (16, 16)},
        {"compression": "zlib", "predictor": True, "byteorder": ">", "rowsperstrip": 10},
        {"tile": (16, 16)},
        {"byteorder": ">"},
        {"bigtiff": True},
        {"extratags": [(274, 3, 1, 6, True)]},
    ],
    ids=str,
)
def test_kinds_of_tiff(tmp_path, dtype, kind, channels):
    if kind.get("predictor") and dtype == "float32":
        pytest.skip("tifffile alone cannot write it")
    shape = (33, 37, channels)
    image = (np.random.default_rng(0).random(shape) * (1 if dtype == "float32" else 65535)).astype(
        dtype
    )
    write_tiff(tmp_path / "a.tif", image, **kind)
    upright = np.rot90(image, -1) if "extratags" in kind else image
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), upright)
    header = read_header(tmp_path / "a.tif")
    assert (header.height, header.width, header.channels) == upright.shape


def test_the_predictors_of_grey_with_alpha(tmp_path):
    path = tmp_path / "a.tif"
    image = np.random.default_rng(0).integers(0, 65536, (33, 37, 2), np.uint16)
    write_tiff(path, image, predictor=True, compression="zlib")
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags["Predictor"].overwrite(3)
    message = r"a predictor for floats, which is unsupported; save it without a predictor\.$"
    with pytest.raises(InputError, match=message):
        read_image(path)
    write_tiff(path, image, extratags=[(317, 3, 1, 2, True)])  # nothing is compressed
    np.testing.assert_array_equal(read_image(path), image)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_tiff_whose_exif_lies_before_the_file_is_read(tmp_path, photo, dtype):
    path, other = tmp_path / "a.tif", 65000
    tags = [(other, "i", 1, -28, True)]
    tifffile.imwrite(path, photo.astype(dtype), photometric="rgb", extratags=tags)
    tag, exif = (struct.pack("<HHI", code, 9, 1) for code in (other, ExifTags.IFD.Exif))
    path.write_bytes(path.read_bytes().replace(tag, exif))
    np.testing.assert_array_equal(read_image(path), photo)
    assert "EXIF of the source is damaged" in read_header(path).metadata.lost[0]


def test_pixels_before_the_file_are_damage(tmp_path, photo):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, photo, photometric="rgb")
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags["StripOffsets"].overwrite([-28], dtype="i")
    with pytest.raises(InputError, match=r"truncated or damaged"):
        read_image(path)


@pytest.mark.parametrize(
    ("options", "tag", "value", "message"),
    [
        ({"rowsperstrip": 4}, "RowsPerStrip", 3, "lacks some of its strips"),
        ({"tile": (16, 32)}, "TileLength", 8, "lacks some of its strips or tiles"),
        ({"tile": (16, 32)}, "TileWidth", 2**24, "has tiles of 16777216×16 pixels"),
    ],
)
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_parts_that_make_no_sense_are_refused(tmp_path, photo, options, tag, value, message, dtype):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, photo.astype(dtype), **options)
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags[tag].overwrite(value, dtype="I")
    for read in (read_image, open_image):
        with pytest.raises(InputError, match=rf"a\.tif {message}"):
            read(path)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("factor", [0, 0.5, 2])
@pytest.mark.parametrize("options", [{"rowsperstrip": 4}, {"tile": (16, 32)}])
def test_wrong_sizes_of_pixels_that_are_not_compressed_do_no_harm(
    tmp_path, photo, dtype, factor, options
):
    path, image = tmp_path / "a.tif", photo if dtype == "uint8" else deep(photo, dtype)
    tifffile.imwrite(path, image, photometric="rgb", **options)
    with tifffile.TiffFile(path, mode="r+b") as file:
        tag = file.pages[0].tags["TileByteCounts" if "tile" in options else "StripByteCounts"]
        tag.overwrite([int(size * factor) for size in tag.value])
    np.testing.assert_array_equal(read_image(path), image)
    np.testing.assert_array_equal(open_image(path)[:, :], image)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("options", [{"rowsperstrip": 4}, {"tile": (16, 32)}])
def test_parts_that_the_picture_has_not_do_no_harm(tmp_path, photo, dtype, options):
    path, image = tmp_path / "a.tif", photo if dtype == "uint8" else deep(photo, dtype)
    tifffile.imwrite(path, image, photometric="rgb", **options)
    name = "Tile" if "tile" in options else "Strip"
    with tifffile.TiffFile(path, mode="r+b") as file:
        for tag, more in ((f"{name}Offsets", 8), (f"{name}ByteCounts", 2**20)):
            tag = file.pages[0].tags[tag]
            tag.overwrite([*tag.value, more], dtype="I")
    np.testing.assert_array_equal(read_image(path), image)
    np.testing.assert_array_equal(open_image(path)[:, :], image)


def test_opencv_sees_no_tag_that_was_not_checked(tmp_path):
    """Pillow stops at a tag that it cannot read, and so misses the tag that announces planes.

    OpenCV would fill one plane and leave the others uninitialized.
    """
    path = tmp_path / "a.tif"
    planes = np.random.default_rng(0).integers(0, 65536, (3, 17, 13), np.uint16)
    tifffile.imwrite(path, planes, photometric="rgb", planarconfig="separate", byteorder=">")
    with tifffile.TiffFile(path) as file:
        tags = file.pages[0].tags
        place, sizes = tags["StripOffsets"].value[0], tags["StripByteCounts"].offset
    with path.open("r+b") as raw:
        raw.seek(sizes)
        raw.write(struct.pack(">HHII", 23, 3, 3, 2**24))
    stored = np.frombuffer(path.read_bytes(), ">u2", planes.size, place)
    with pytest.warns(UserWarning, match="Truncated File Read"):
        np.testing.assert_array_equal(read_image(path), stored.reshape(17, 13, 3))
