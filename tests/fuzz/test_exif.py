"""Damaged or hostile EXIF: its orientation is applied, or it is left out."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL.ExifTags import IFD, Base
from PIL.Image import Exif

from hfdn_deploy.images import encode_image, read_header, upright_exif, write_image
from tests.helpers.images import chunk
from tests.helpers.metadata import exif
from tests.helpers.mutations import damaged
from tests.helpers.profiles import fuzz

TARGETS = ("a.png", "a.jpg", "a.webp", "a.tif", "a.avif")
PIXELS = np.zeros((2, 3, 3), np.uint8)


def blocks() -> list[bytes]:
    """Return EXIF with every orientation and an invalid one, in both byte orders."""
    found = []
    for orientation in range(1, 10):
        for order in "<>":
            data = exif(orientation)
            data.endian = order
            found.append(data.tobytes().removeprefix(b"Exif\0\0"))
    return found


BLOCKS = blocks()
# An ExifImageWidth of three values that extend past the block, into the rest of a TIFF.
SIZE_BEHIND_THE_END = bytes.fromhex(
    "49492a00 08000000 0100 6987 0400 01000000 1a000000 00000000 0100 02a0 0300 03000000 24000000"
)


def test_the_seeds_are_read():
    assert [upright_exif(block)[1] for block in BLOCKS[::2]] == [1, 2, 3, 4, 5, 6, 7, 8, 1]


def png_with(block: bytes) -> bytes:
    """Return a PNG whose EXIF chunk holds the block."""
    data = bytearray(encode_image(PIXELS, Path("a.png")))
    data[33:33] = chunk(b"eXIf", block)
    return bytes(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@fuzz(2500)
@given(block=damaged(BLOCKS), target=st.sampled_from(TARGETS))
@example(block=SIZE_BEHIND_THE_END, target="a.tif")
def test_any_exif_becomes_upright_or_is_left_out(block, target, folder):
    upright, orientation = upright_exif(block)
    assert orientation in range(1, 9)
    if upright is not None:
        assert upright_exif(upright)[1] == 1
    source = folder / "image.png"
    source.write_bytes(png_with(block))
    header = read_header(source)
    sides = {header.width, header.height}
    assert sides == {2, 3}
    assert (header.width == 2) == (orientation >= 5)
    assert header.metadata.exif == upright
    write_image(folder / target, np.zeros((20, 30, 3), np.uint8), header.metadata)
    written = read_header(folder / target)
    assert (written.width, written.height) == (30, 20)
    if written.metadata.exif:
        parsed = Exif()
        parsed.load(written.metadata.exif)
        assert parsed.get(Base.Orientation, 1) == 1
        assert parsed.get_ifd(IFD.Exif).get(Base.ExifImageWidth, 30) == 30
