import resource
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from hfdn_deploy.errors import InputError
from hfdn_deploy.images import png as png_module
from hfdn_deploy.images import read_header, read_image, size_of, write_image
from tests.helpers.images import chunk, png


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
        assert size_of(back)[2] == header.channels


def test_an_animation_of_16_bits_is_refused(tmp_path):
    """OpenCV gives its second picture, which is the first of the animation."""
    deep = np.array([[500, 60000]], np.uint16)
    control = chunk(b"acTL", struct.pack(">II", 2, 0))
    (tmp_path / "a.png").write_bytes(png(deep, 0, 16, control))
    with pytest.raises(InputError, match="animated PNG of 16 bits; save its first picture"):
        read_image(tmp_path / "a.png")


def test_a_chunk_longer_than_its_file_takes_no_memory(tmp_path, photo):
    write_image(tmp_path / "a.png", photo.astype(np.uint16))
    data = (tmp_path / "a.png").read_bytes()
    where = data.index(b"IDAT")
    (tmp_path / "a.png").write_bytes(data[: where - 4] + b"\xff" * 4 + data[where:])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="a chunk runs over the end"):
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


def test_a_png_is_as_small_as_pillows(tmp_path, photo):
    write_image(tmp_path / "ours.png", photo)
    Image.fromarray(photo).save(tmp_path / "pillows.png")
    sizes = [(tmp_path / f"{name}.png").stat().st_size for name in ("ours", "pillows")]
    assert sizes[0] < 1.05 * sizes[1]
