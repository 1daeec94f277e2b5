import io
import os
import resource
import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image

from hfdn_deploy.errors import InputError
from hfdn_deploy.images import (
    decoding,
    find_images,
    read_header,
    read_image,
    reading,
    write_image,
)


def chunk(kind, data):
    return struct.pack(">I4s", len(data), kind) + data + struct.pack(">I", zlib.crc32(kind + data))


def png(pixels, colour_type, depth, *chunks):
    """A PNG of exactly this kind; what has less than 8 bits is two pixels, `packed`."""
    height, width = (1, 2) if depth < 8 else pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(f">u{max(1, depth // 8)}").tobytes() for row in pixels)
    parts = [
        chunk(b"IHDR", header),
        *chunks,
        chunk(b"IDAT", zlib.compress(rows)),
        chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def packed(depth, first, second):
    """Two pixels of so many bits in a byte, the first in the highest."""
    return np.array([[(first << depth | second) << (8 - 2 * depth)]], np.uint8)


def test_palettes_and_transparent_colours_of_png(tmp_path):
    path = tmp_path / "a.png"
    palette = chunk(b"PLTE", bytes([9, 8, 7, 1, 2, 3]))
    index = np.array([[0, 1]], np.uint8)
    deep = np.array([[500, 60000]], np.uint16)
    colour = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)
    for data, expected in [
        (png(index, 3, 8, palette), [[[9, 8, 7], [1, 2, 3]]]),
        (png(index, 3, 8, palette, chunk(b"tRNS", b"\x50")), [[[9, 8, 7, 80], [1, 2, 3, 255]]]),
        (png(index, 0, 8, chunk(b"tRNS", b"\0\1")), [[[0, 255], [1, 0]]]),
        (png(packed(4, 5, 10), 0, 4, chunk(b"tRNS", b"\0\5")), [[[85, 0], [170, 255]]]),
        (png(packed(2, 1, 2), 0, 2, chunk(b"tRNS", b"\0\2")), [[[85, 255], [170, 0]]]),
        (png(packed(1, 0, 1), 0, 1, chunk(b"tRNS", b"\0\1")), [[[0, 255], [255, 0]]]),
        (png(colour, 2, 8, chunk(b"tRNS", b"\0\1\0\2\0\3")), [[[1, 2, 3, 0], [4, 5, 6, 255]]]),
        (png(deep, 0, 16), deep),
        (png(deep, 0, 16, chunk(b"tRNS", b"\x01\xf4")), [[[500, 0], [60000, 65535]]]),
        (png(np.dstack([deep, deep + 1]), 4, 16), [[[500, 501], [60000, 60001]]]),
    ]:
        path.write_bytes(data)
        back = read_image(path)
        np.testing.assert_array_equal(back, expected)
        header = read_header(path)
        assert (header.width, header.height, header.dtype) == (2, 1, back.dtype.name)
        assert (*back.shape, 1)[2] == header.channels


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
        ("uint8", {"photometric": "separated"}, "CMYK"),
        ("uint8", {"bigtiff": True, "byteorder": ">"}, "big-endian BigTIFF"),
    ],
)
def test_a_tiff_that_would_be_misread_is_refused(tmp_path, dtype, kind, message):
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
    """With channels as those of our images."""
    channels = (*image.shape, 1)[2]
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
    with pytest.raises(InputError, match=r"differences of floats; save it without a predictor\.$"):
        read_image(path)
    write_tiff(path, image, extratags=[(317, 3, 1, 2, True)])  # nothing is compressed
    np.testing.assert_array_equal(read_image(path), image)


def test_cmyk_jpeg_is_refused(tmp_path, photo):
    Image.fromarray(photo).convert("CMYK").save(tmp_path / "a.jpg")
    with pytest.raises(InputError, match=r"a\.jpg holds CMYK pixels; convert it to RGB"):
        read_image(tmp_path / "a.jpg")


def test_avif_of_ten_bits_is_refused(tmp_path, photo):
    deep = photo.astype(np.uint16) << 2
    done, data = cv2.imencode(".avif", deep, [cv2.IMWRITE_AVIF_DEPTH, 10])
    assert done
    (tmp_path / "a.avif").write_bytes(data.tobytes())
    with pytest.raises(InputError, match="has 10 bits a channel"):
        read_image(tmp_path / "a.avif")


def test_the_first_of_several_pictures(tmp_path, photo, caplog):
    frames = [Image.fromarray(photo), Image.fromarray(photo[::-1].copy())]
    for name in ("a.webp", "a.png", "a.tif"):
        options = {"lossless": True} if name == "a.webp" else {}
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
        np.testing.assert_array_equal(read_image(tmp_path / name), photo)
        assert "only the first" in caplog.text
        caplog.clear()


def test_an_animation_of_16_bits_is_refused(tmp_path):
    """OpenCV gives its second picture, which is the first of the animation."""
    deep = np.array([[500, 60000]], np.uint16)
    control = chunk(b"acTL", struct.pack(">II", 2, 0))
    (tmp_path / "a.png").write_bytes(png(deep, 0, 16, control))
    with pytest.raises(InputError, match="animated PNG of 16 bits; save its first picture"):
        read_image(tmp_path / "a.png")


def test_bad_files_are_named(tmp_path, photo):
    write_image(tmp_path / "whole.png", photo)
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "header.png").write_bytes((tmp_path / "whole.png").read_bytes()[:30])
    for name in ("empty.png", "text.png", "header.png", "missing.png"):
        with pytest.raises(InputError, match=name):
            read_image(tmp_path / name)
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path, tmp_path / "pipe.png"):
        with pytest.raises(InputError, match="cannot be read: it is no regular file"):
            read_image(path)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_tiff_whose_exif_lies_before_the_file_is_read(tmp_path, photo, dtype):
    path, other = tmp_path / "a.tif", 65000
    tags = [(other, "i", 1, -28, True)]
    tifffile.imwrite(path, photo.astype(dtype), photometric="rgb", extratags=tags)
    tag, exif = (struct.pack("<HHI", code, 9, 1) for code in (other, ExifTags.IFD.Exif))
    path.write_bytes(path.read_bytes().replace(tag, exif))
    np.testing.assert_array_equal(read_image(path), photo)
    assert read_header(path).metadata.damaged


def test_pixels_before_the_file_are_damage(tmp_path, photo):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, photo, photometric="rgb")
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags["StripOffsets"].overwrite([-28], dtype="i")
    with pytest.raises(InputError, match=r"truncated or damaged"):
        read_image(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp", ".avif"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_half_a_file_is_no_image(tmp_path, photo, suffix, dtype):
    if dtype == "uint16" and suffix not in (".png", ".tif"):
        pytest.skip("8 bits only")
    path = tmp_path / f"a{suffix}"
    write_image(path, photo.astype(dtype))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])
    with pytest.raises(InputError, match=r"truncated or damaged"):
        read_image(path)


def bombs():
    """Headers of 60,000×60,000 pixels (WebP: its largest), with few bytes behind them."""
    side = 60_000
    yield (
        "a.png",
        png(np.zeros((1, 1), np.uint8), 2, 8).replace(
            chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)),
            chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)),
        ),
    )
    for suffix, old, new in [
        ("jpg", b"\x08\x00\x09\x00\x07", struct.pack(">BHH", 8, side, side)),
        ("bmp", struct.pack("<II", 7, 9), struct.pack("<II", side, side)),
        ("avif", struct.pack(">II", 7, 9), struct.pack(">II", side, side)),
    ]:
        file = io.BytesIO()
        Image.new("RGB", (7, 9)).save(file, {"jpg": "JPEG"}.get(suffix, suffix.upper()))
        assert file.getvalue().count(old) == 1
        yield f"a.{suffix}", file.getvalue().replace(old, new)
    file = io.BytesIO()
    tags = [(256, "I", 1, side, True), (257, "I", 1, side, True)]
    tifffile.imwrite(file, np.zeros((9, 7, 3), np.uint8), photometric="rgb")
    data = bytearray(file.getvalue())
    for tag, *_ in tags:
        where = data.index(struct.pack("<HHI", tag, 4, 1)) if tag else 0
        data[where + 8 : where + 12] = struct.pack("<I", side)
    yield "a.tif", bytes(data)


@pytest.mark.parametrize(
    ("name", "data"), list(bombs()), ids=lambda x: x if isinstance(x, str) else ""
)
def test_a_bomb_is_refused_from_its_header(tmp_path, name, data, monkeypatch):
    (tmp_path / name).write_bytes(data)
    monkeypatch.setattr(decoding, "decode", None)
    # AVIF's own reader refuses it even earlier.
    message = "truncated or damaged" if name == "a.avif" else "is 60000×60000 pixels, more than"
    for read in (read_image, read_header):
        with pytest.raises(InputError, match=message):
            read(tmp_path / name)


def test_a_chunk_longer_than_its_file_takes_no_memory(tmp_path, photo):
    write_image(tmp_path / "a.png", photo.astype(np.uint16))
    data = (tmp_path / "a.png").read_bytes()
    where = data.index(b"IDAT")
    (tmp_path / "a.png").write_bytes(data[: where - 4] + b"\xff" * 4 + data[where:])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="a chunk runs over the end"):
        read_image(tmp_path / "a.png")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**17  # KiB


def test_what_memory_does_not_hold_is_refused(tmp_path, photo, monkeypatch):
    write_image(tmp_path / "a.webp", photo)
    free = type("Memory", (), {"available": photo.size * 3})
    monkeypatch.setattr(reading.psutil, "virtual_memory", lambda: free)
    with pytest.raises(InputError, match=r"a\.webp needs about .* GiB of memory"):
        read_image(tmp_path / "a.webp")


def test_images_of_a_folder(tmp_path):
    for name in ("b.png", "A.JPG", ".hidden.png", "note.txt", "sub/c.tif", ".git/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in find_images(tmp_path)] == ["A.JPG", "b.png"]
    below = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path, True)]
    assert below == ["A.JPG", "b.png", "sub/c.tif"]
    assert find_images(tmp_path / "nowhere") == []
