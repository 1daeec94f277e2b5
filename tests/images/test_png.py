import resource
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from hfdn_deploy.errors import InputError
from hfdn_deploy.images import (
    decode_image,
    open_image,
    read_header,
    read_image,
    size_of,
    write_image,
)
from hfdn_deploy.images import png as png_module
from hfdn_deploy.images.png_chunks import filtered_bytes
from tests.helpers.images import SAMPLES, chunk, png, raw_png


def packed(depth, first, second):
    """Return two pixels of `depth` bits in a byte, the first in the highest bits."""
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
        assert size_of(back)[2] == header.channels


def test_an_animation_of_16_bits_is_refused(tmp_path):
    """OpenCV returns its second image, the first frame of the animation."""
    deep = np.array([[500, 60000]], np.uint16)
    control = chunk(b"acTL", struct.pack(">II", 2, 0))
    (tmp_path / "a.png").write_bytes(png(deep, 0, 16, control))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), deep)  # it has no frames
    control += chunk(b"fcTL", struct.pack(">5I2H2B", 0, 2, 1, 0, 0, 1, 10, 0, 0))
    (tmp_path / "a.png").write_bytes(png(deep, 0, 16, control))
    with pytest.raises(InputError, match="animated PNG of 16 bits; save its first frame"):
        read_image(tmp_path / "a.png")


def test_a_chunk_longer_than_its_file_takes_no_memory(tmp_path, photo):
    write_image(tmp_path / "a.png", photo.astype(np.uint16))
    data = (tmp_path / "a.png").read_bytes()
    where = data.index(b"IDAT")
    (tmp_path / "a.png").write_bytes(data[: where - 4] + b"\xff" * 4 + data[where:])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="a chunk runs past the end"):
        read_image(tmp_path / "a.png")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**17  # KiB


def test_what_follows_pixels_that_end_too_early_is_not_read(tmp_path):
    header = struct.pack(">IIBBBBB", 9, 9, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(80)) + bytes(10**6)
    chunks = [(b"IHDR", header), (b"IDAT", pixels), (b"IEND", b"")]
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*parts) for parts in chunks))
    with path.open("rb") as file:
        bands = png_module.Png(file).bands()
        with pytest.raises(EOFError, match="end too early"):
            list(bands)
        assert file.tell() < 2 * 10**5


KINDS = [
    (depth, colour)
    for colour, depths in {
        0: (1, 2, 4, 8, 16),
        2: (8, 16),
        3: (1, 2, 4, 8),
        4: (8, 16),
        6: (8, 16),
    }.items()
    for depth in depths
]


@pytest.mark.parametrize(("depth", "colour"), KINDS)
@pytest.mark.parametrize("level", [0, 0x99], ids=["black", "grey"])
def test_pixels_that_end_too_early_are_refused_in_every_kind(depth, colour, level):
    """They end after any row, which Pillow does not report, or inside a row."""
    row = b"\0" + bytes([level]) * (8 * depth * SAMPLES[colour] // 8)
    kind = depth, colour, 0
    assert decode_image(raw_png((8, 9), kind, 9 * row), "a.png").shape[:2] == (9, 8)
    for filtered in (b"", *(n * row for n in range(1, 9)), 9 * row[:-1], (9 * row)[:-1]):
        with pytest.raises(InputError, match=r"a\.png is truncated or damaged"):
            decode_image(raw_png((8, 9), kind, filtered), "a.png")


def test_interlaced_pixels_that_end_too_early_are_refused():
    # For 8×8 RGB pixels: the rows of each pass, and their bytes without that of the filter.
    passes = [(1, 3), (1, 3), (1, 6), (2, 6), (2, 12), (4, 12), (4, 24)]
    rows = [b"\0" + bytes([0x99]) * size for number, size in passes for _ in range(number)]
    kind = 8, 2, 1
    image = decode_image(raw_png((8, 8), kind, b"".join(rows)), "a.png")
    np.testing.assert_array_equal(image, np.full((8, 8, 3), 0x99))
    for end in range(len(rows)):
        with pytest.raises(InputError, match=r"a\.png is truncated or damaged"):
            decode_image(raw_png((8, 8), kind, b"".join(rows[:end])), "a.png")


@pytest.mark.parametrize("interlaced", [0, 1])
@pytest.mark.parametrize(("depth", "colour"), KINDS)
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 4), (9, 1), (1, 9), (33, 17)])
def test_black_pixels_are_counted_right(size, depth, colour, interlaced):
    """One byte less than counted is too few."""
    kind = depth, colour, interlaced
    count = filtered_bytes(*size, bytes([depth, colour, 0, 0, interlaced]))
    image = decode_image(raw_png(size, kind, bytes(count)), "a.png")
    assert image.shape[:2] == size[::-1]
    with pytest.raises(InputError, match=r"a\.png is truncated or damaged"):
        decode_image(raw_png(size, kind, bytes(count - 1)), "a.png")


def test_pixels_are_counted_only_where_the_last_row_is_black(tmp_path, photo, monkeypatch):
    counted, read = [], png_module._Inflated.read
    monkeypatch.setattr(
        png_module._Inflated, "read", lambda self, size: counted.append(size) or read(self, size)
    )
    write_image(tmp_path / "a.png", photo)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), photo)
    assert counted == []
    dark = photo.copy()
    dark[-1] = 0
    write_image(tmp_path / "a.png", dark)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), dark)
    assert counted == [60 * (1 + 3 * 83)]


def test_a_stream_that_cannot_hold_the_pixels_is_not_decoded(tmp_path, monkeypatch):
    path = tmp_path / "long.png"
    path.write_bytes(raw_png((1, 4_194_304), (8, 2, 0), bytes(100)))
    assert path.stat().st_size == 69
    monkeypatch.setattr(png_module.Png, "_decode", None)
    for read in (read_image, open_image):
        with pytest.raises(InputError, match=r"long\.png is truncated.*pixels end too early"):
            read(path)


def test_a_png_is_as_small_as_pillows(tmp_path, photo):
    write_image(tmp_path / "ours.png", photo)
    Image.fromarray(photo).save(tmp_path / "pillows.png")
    sizes = [(tmp_path / f"{name}.png").stat().st_size for name in ("ours", "pillows")]
    assert sizes[0] < 1.05 * sizes[1]
