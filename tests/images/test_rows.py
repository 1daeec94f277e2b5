import os
import resource
import struct
import zlib
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from hfdn_deploy.errors import BackendError, InputError
from hfdn_deploy.images import (
    Banded,
    Rows,
    open_image,
    png,
    png_chunk,
    read_header,
    read_image,
    rows,
    write_image,
)


@pytest.fixture(autouse=True)
def small_bands(monkeypatch):
    """So that small pictures take several."""
    monkeypatch.setattr(rows, "BAND_BYTES", 3000)


def deep(photo, dtype):
    """The photograph with all bits of this dtype in use."""
    noise = np.random.default_rng(0).random(photo.shape)
    if dtype == "float32":
        return ((photo + noise) / 256).astype(dtype)
    return (photo.astype(dtype) * 256 + (noise * 256).astype(dtype)).astype(dtype)


def in_parts(image: Rows) -> np.ndarray:
    """All of it, asked for as tiles are: with halos, from top to bottom, and with columns."""
    height, width = image.shape[:2]
    parts = []
    for top in range(0, height, 7):
        around = image[slice(max(0, top - 5), min(top + 12, height)), slice(None)]
        left = image[slice(top, min(top + 7, height)), slice(0, width // 2)]
        part = around[top - max(0, top - 5) :][:7]
        np.testing.assert_array_equal(left, part[:, : width // 2])
        parts.append(part)
    return np.concatenate(parts)


def tiff(path, image, **options):
    tifffile.imwrite(path, image, **options)


KINDS = {
    "rgb.png": lambda path, photo: cv2.imwrite(path, photo),
    "grey.png": lambda path, photo: cv2.imwrite(path, photo[..., 0]),
    "deep.png": lambda path, photo: cv2.imwrite(path, deep(photo, "uint16")),
    "deep_grey.png": lambda path, photo: cv2.imwrite(path, deep(photo, "uint16")[..., 0]),
    "pillow.png": lambda path, photo: Image.fromarray(photo).save(path, optimize=True),
    "pillow.tif": lambda path, photo: Image.fromarray(photo).save(path),
    "ours.tif": lambda path, photo: write_image(Path(path), deep(photo, "uint16")),
    "strips.tif": lambda path, photo: tiff(path, photo, rowsperstrip=4),
    "lzw.tif": lambda path, photo: Image.fromarray(photo).save(
        path, compression="tiff_lzw", tiffinfo={317: 2, 278: 8}
    ),
    "jpeg.tif": lambda path, photo: Image.fromarray(photo).save(
        path, compression="jpeg", tiffinfo={278: 8}
    ),
    "packbits.tif": lambda path, photo: Image.fromarray(photo[..., 0]).save(
        path, compression="packbits", tiffinfo={278: 8}
    ),
    "fax.tif": lambda path, photo: Image.fromarray(photo[..., 0] > 99).save(
        path, compression="group4", tiffinfo={278: 8}
    ),
    "fax_in_two_dimensions.tif": lambda path, photo: Image.fromarray(photo[..., 0] > 99).save(
        path, compression="group3", tiffinfo={278: 8, 292: 1}
    ),
    "palette.tif": lambda path, photo: Image.fromarray(photo).quantize(100).save(path),
    "big_endian.tif": lambda path, photo: tiff(
        path, deep(photo, "uint16"), byteorder=">", rowsperstrip=3
    ),
    "bigtiff.tif": lambda path, photo: tiff(path, photo, bigtiff=True, rowsperstrip=3),
    "tiles.tif": lambda path, photo: tiff(path, photo, tile=(16, 32)),
    "column_of_tiles.tif": lambda path, photo: tiff(path, photo, tile=(16, 256)),
    "deep_tiles.tif": lambda path, photo: tiff(path, deep(photo, "uint16"), tile=(16, 32)),
    "float.tif": lambda path, photo: tiff(
        path, deep(photo, "float32"), photometric="rgb", rowsperstrip=3
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_rows_are_those_of_the_whole(tmp_path, photo, name):
    path = tmp_path / name
    KINDS[name](str(path), photo)
    whole, image = read_image(path), open_image(path)
    assert isinstance(image, Rows)
    assert (image.shape, image.dtype) == (whole.shape, whole.dtype)
    for _ in range(2):  # the second time from the start again
        np.testing.assert_array_equal(in_parts(image), whole)
    np.testing.assert_array_equal(image[:, :], whole)


def adam7(path, photo):
    """Interlaced (PNG specification, 8.2), without filters."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2)]
    passes.append((1, 0, 2, 1))
    data = b"".join(
        b"\0" + row.tobytes()
        for top, left, down, across in passes
        for row in photo[top::down, left::across]
    )
    header = struct.pack(">IIBBBBB", photo.shape[1], photo.shape[0], 8, 2, 0, 0, 1)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    content = b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)
    Path(path).write_bytes(content)


WHOLE = {
    "a.jpg": lambda path, photo: cv2.imwrite(path, photo),
    "alpha.png": lambda path, photo: cv2.imwrite(path, np.dstack([photo, photo[..., 0]])),
    "palette.png": lambda path, photo: Image.fromarray(photo).quantize(100).save(path),
    "interlaced.png": adam7,
    "turned.tif": lambda path, photo: Image.fromarray(photo).save(path, tiffinfo={274: 6}),
    "ycbcr.tif": lambda path, photo: (
        Image.fromarray(photo)
        .convert("YCbCr")
        .save(path, compression="tiff_lzw", tiffinfo={278: 8, 529: (0.2126, 0.7152, 0.0722)})
    ),
    "planes.tif": lambda path, photo: tiff(
        path, photo.transpose(2, 0, 1), photometric="rgb", planarconfig="separate"
    ),
}


@pytest.mark.parametrize("name", WHOLE)
def test_what_has_no_rows_is_read_whole(tmp_path, photo, name):
    path = tmp_path / name
    WHOLE[name](str(path), photo)
    image = open_image(path)
    assert isinstance(image, np.ndarray)
    np.testing.assert_array_equal(image, read_image(path))


@pytest.mark.parametrize("name", ["rgb.png", "strips.tif", "tiles.tif", "float.tif"])
@pytest.mark.parametrize("harm", ["cut", "flip"])
def test_damage_is_found_where_it_is(tmp_path, photo, name, harm):
    path = tmp_path / name
    KINDS[name](str(path), photo)
    data = bytearray(path.read_bytes())
    if harm == "cut":
        del data[len(data) // 2 :]
    elif name != "rgb.png":
        pytest.skip("a TIFF has no check sums")
    else:
        data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=rf"{name}.*(damaged|truncated)"):
        open_image(path)[:, :]


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
    tiff(str(path), photo.astype(dtype), **options)
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
    tiff(path, image, photometric="rgb", **options)
    with tifffile.TiffFile(path, mode="r+b") as file:
        tag = file.pages[0].tags["TileByteCounts" if "tile" in options else "StripByteCounts"]
        tag.overwrite([int(size * factor) for size in tag.value])
    np.testing.assert_array_equal(read_image(path), image)
    np.testing.assert_array_equal(open_image(path)[:, :], image)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("options", [{"rowsperstrip": 4}, {"tile": (16, 32)}])
def test_parts_that_the_picture_has_not_do_no_harm(tmp_path, photo, dtype, options):
    path, image = tmp_path / "a.tif", photo if dtype == "uint8" else deep(photo, dtype)
    tiff(path, image, photometric="rgb", **options)
    name = "Tile" if "tile" in options else "Strip"
    with tifffile.TiffFile(path, mode="r+b") as file:
        for tag, more in ((f"{name}Offsets", 8), (f"{name}ByteCounts", 2**20)):
            tag = file.pages[0].tags[tag]
            tag.overwrite([*tag.value, more], dtype="I")
    np.testing.assert_array_equal(read_image(path), image)
    np.testing.assert_array_equal(open_image(path)[:, :], image)


def test_opencv_sees_no_tag_that_was_not_checked(tmp_path):
    """Pillow reads no tags behind one that it cannot follow: here that of planes.

    Of planes OpenCV fills in one, and leaves the rest as it was in memory.
    """
    path = tmp_path / "a.tif"
    planes = np.random.default_rng(0).integers(0, 65536, (3, 17, 13), np.uint16)
    tiff(path, planes, photometric="rgb", planarconfig="separate", byteorder=">")
    with tifffile.TiffFile(path) as file:
        tags = file.pages[0].tags
        place, sizes = tags["StripOffsets"].value[0], tags["StripByteCounts"].offset
    with path.open("r+b") as raw:
        raw.seek(sizes)
        raw.write(struct.pack(">HHII", 23, 3, 3, 2**24))
    stored = np.frombuffer(path.read_bytes(), ">u2", planes.size, place)
    with pytest.warns(UserWarning, match="Truncated File Read"):
        np.testing.assert_array_equal(read_image(path), stored.reshape(17, 13, 3))


def test_what_follows_pixels_that_end_too_early_is_not_read(tmp_path):
    header = struct.pack(">IIBBBBB", 9, 9, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(80)) + bytes(10**6)
    chunks = [(b"IHDR", header), (b"IDAT", pixels), (b"IEND", b"")]
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks))
    header = read_header(path)
    with path.open("rb") as file:
        bands = png.bands(file, header)
        with pytest.raises(EOFError, match="end too early"):
            list(bands)
        assert file.tell() < 2 * 10**5


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_that_there_are_more_pictures_is_said(tmp_path, caplog, photo, suffix):
    path = tmp_path / f"a{suffix}"
    first = Image.fromarray(photo)
    first.save(path, save_all=True, append_images=[Image.fromarray(255 - photo)])
    image = open_image(path)
    assert caplog.messages == [f"{path}: only the first of its pictures is read"]
    np.testing.assert_array_equal(image[:, :], photo)
    assert isinstance(image, Rows) and len(caplog.messages) == 1


def test_rows_behind_an_error_are_not_skipped(photo):
    def bands():
        yield photo[:10]
        raise InputError("torn")

    image = Rows(photo.shape, photo.dtype, bands)
    np.testing.assert_array_equal(image[5:10, :], photo[5:10])
    with pytest.raises(InputError, match="torn"):
        image[8:20, :]
    with pytest.raises(InputError, match="too early"):
        image[20:, :]


def test_a_file_that_changes_meanwhile_is_refused(tmp_path, photo):
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), photo)
    image = open_image(path)
    cv2.imwrite(str(path), photo[:-1])
    with pytest.raises(InputError, match=r"a\.png was changed while it was read"):
        image[:5, :]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_only_the_rows_asked_for_are_in_memory(tmp_path, monkeypatch, suffix):
    monkeypatch.undo()
    path = tmp_path / f"a{suffix}"
    write_image(path, np.zeros((6000, 8000, 3), np.uint8))
    pid = os.fork()
    if pid == 0:
        image = open_image(path)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for top in range(0, 5900, 100):
            image[slice(top, top + 100), slice(None)]
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        os._exit(grown // 1024)
    mebibytes = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert mebibytes < 30  # the whole is 137


def banded(image, *stops):
    edges = [0, *stops, len(image)]
    bands = (image[a:b] for a, b in pairwise(edges))
    return Banded(image.shape, image.dtype, bands)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_bands_make_the_same_file(tmp_path, photo, suffix, dtype):
    # Large enough for several strips of a TIFF.
    image = np.tile(photo, (9, 9, 1)).astype(dtype) * (257 if dtype == "uint16" else 1)
    if dtype == "uint16" and suffix in (".webp", ".jpg"):
        pytest.skip("8 bits only")
    write_image(tmp_path / f"whole{suffix}", image)
    write_image(tmp_path / f"bands{suffix}", banded(image, 1, 2, 300, 400))
    whole, bands = (read_image(tmp_path / f"{name}{suffix}") for name in ("whole", "bands"))
    np.testing.assert_array_equal(bands, whole)
    if suffix == ".png":
        np.testing.assert_array_equal(whole, image)
        return
    assert (tmp_path / f"whole{suffix}").read_bytes() == (tmp_path / f"bands{suffix}").read_bytes()


def test_a_png_is_as_small_as_pillows(tmp_path, photo):
    write_image(tmp_path / "ours.png", photo)
    Image.fromarray(photo).save(tmp_path / "pillows.png")
    sizes = [(tmp_path / f"{name}.png").stat().st_size for name in ("ours", "pillows")]
    assert sizes[0] < 1.05 * sizes[1]


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
@pytest.mark.parametrize("error", [BackendError("the engine failed"), KeyboardInterrupt()])
def test_what_ends_the_bands_comes_through_and_leaves_nothing(tmp_path, photo, suffix, error):
    def bands():
        yield photo[:10]
        raise error

    with pytest.raises(type(error)):
        write_image(tmp_path / f"a{suffix}", Banded(photo.shape, photo.dtype, bands()))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_bands_can_be_taken_once(tmp_path, photo, suffix):
    image = banded(photo, 5)
    write_image(tmp_path / f"a{suffix}", image)
    for rest in (image, banded(photo[:-1], 5)):
        rest = Banded(photo.shape, photo.dtype, rest.bands)
        with pytest.raises(InputError, match="rows of the image were taken before"):
            write_image(tmp_path / f"b{suffix}", rest)
    with pytest.raises(InputError, match=f"{len(photo)} rows of the image were taken before"):
        image.whole()
    assert not (tmp_path / f"b{suffix}").exists()
