"""The displayed images of GIFs, and their metadata."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hfdn_deploy.images import Animation, decode_header, decode_image, encode_image
from hfdn_deploy.images.metadata import Metadata
from tests.helpers.metadata import XMP

RED = (255, 0, 0)


def at(place, size=(3, 3), more=b""):
    """Return a GIF with a red frame of 2 × 2 pixels at this place of its canvas."""
    file = io.BytesIO()
    Image.new("RGB", (2, 2), RED).quantize(2).save(file, "GIF", optimize=False)
    still = bytearray(file.getvalue())
    still[6:10] = struct.pack("<2H", *size)
    start = still.index(b"\x2c\0\0\0\0")
    still[start + 1 : start + 5] = struct.pack("<2H", *place)
    still[start:start] = more
    return bytes(still)


@pytest.mark.parametrize(
    ("place", "shown"),
    [((0, 0), 4), ((1, 1), 4), ((2, 2), 1), ((3, 0), 0), ((9, 9), 0)],
)
def test_what_no_frame_covers_is_transparent(tmp_path, place, shown):
    pixels = decode_image(at(place), "a.gif")
    expected = np.zeros((3, 3, 4), np.uint8)
    expected[place[1] : place[1] + 2, place[0] : place[0] + 2] = (*RED, 255)
    assert np.count_nonzero(expected[..., 3]) == shown
    np.testing.assert_array_equal(pixels, expected)
    (tmp_path / "a.gif").write_bytes(at(place))
    with Animation(tmp_path / "a.gif") as animation:
        np.testing.assert_array_equal(next(animation.frames().pixels), expected)


def joined(size, *stills, more=b""):
    """Return a GIF of the images of several GIFs on one canvas, with blocks before the first."""
    images = [still[still.index(b"\x2c") : -1] for still in stills]
    head = stills[0][: stills[0].index(b"\x2c")]
    return head[:6] + struct.pack("<2H", *size) + head[10:] + more + b"".join(images) + b";"


TILES = [at((0, 0)), at((2, 0)), at((0, 2)), at((2, 2))]


@pytest.mark.parametrize(("tiles", "channels"), [(TILES, 3), (TILES[:3], 4)])
def test_images_that_share_a_canvas_are_one(tiles, channels):
    data = joined((4, 4), *tiles)
    header = decode_header(data, "a.gif")
    assert (header.frames, header.animated, header.channels) == (1, False, channels)
    pixels = decode_image(data, "a.gif")
    assert np.count_nonzero((pixels[..., :3] == RED).all(axis=2)) == 4 * len(tiles)


DELAY = b"\x21\xf9\x04\0\x05\0\0\0"
CLEARED = b"\x21\xf9\x04\x08\0\0\0\0"
LOOP = b"\x21\xff\x0bNETSCAPE2.0\x03\x01\0\0\0"


@pytest.mark.parametrize(
    ("tiles", "more"),
    [(TILES, DELAY), (TILES, CLEARED), (TILES, LOOP), ([*TILES, TILES[0]], b"")],
    ids=["delay", "cleared", "loop", "overlap"],
)
def test_images_that_follow_one_another_are_frames(tiles, more):
    data = joined((4, 4), *tiles, more=more)
    header = decode_header(data, "a.gif")
    assert (header.frames, header.animated) == (len(tiles), True)
    assert np.count_nonzero(decode_image(data, "a.gif")[..., 3]) == 4


def test_a_frame_that_covers_all_leaves_it_opaque():
    assert decode_image(at((0, 0), (2, 1)), "a.gif").tolist() == [[[*RED], [*RED]]]


def test_metadata(photo):
    said = Metadata(comments=(b"one", b"x" * 600), xmp=XMP)
    data = encode_image(photo, Path("a.gif"), said)
    again = decode_header(data, "a.gif").metadata
    assert (again.comments, again.xmp) == (said.comments, said.xmp)
    bare = encode_image(photo, Path("a.gif"))
    np.testing.assert_array_equal(decode_image(data, "a.gif"), decode_image(bare, "a.gif"))


def test_a_profile_is_read():
    profile = bytes(range(256)) * 2
    blocks = b"".join(b"\x80" + profile[i : i + 128] for i in range(0, 512, 128))
    data = at((0, 0), more=b"\x21\xff\x0bICCRGBG1012" + blocks + b"\0")
    assert decode_header(data, "a.gif").metadata.icc == profile
