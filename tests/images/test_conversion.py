"""Conversion of CMYK and L*a*b* to sRGB."""

import io
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image

from hfdn_deploy.images import ImageReader, decode_image

INKS = np.zeros((8, 16, 4), np.uint8)
INKS[:, 8:, 0] = 255  # paper on the left, cyan on the right


def cmyk_profile():
    """Return an ICC profile in which full cyan is a middle grey, and other inks are black.

    It has a header and one tag, a lut8Type of two grid points per ink (ICC.1:2001-04, 6.5.8).
    """
    lab = np.zeros((2, 2, 2, 2, 3), np.uint8)
    lab[...] = (0, 128, 128)
    lab[0, 0, 0, 0], lab[1, 0, 0, 0] = (255, 128, 128), (128, 128, 128)
    identity = [65536 if i % 4 == 0 else 0 for i in range(9)]
    curves = [bytes(range(256)) * 4, lab.tobytes(), bytes(range(256)) * 3]
    table = b"mft1" + struct.pack(">IBBBx9i", 0, 4, 3, 2, *identity) + b"".join(curves)
    tags = struct.pack(">I4sII", 1, b"A2B0", 144, len(table))
    kinds = (b"prtr", b"CMYK", b"Lab ")
    head = struct.pack(">I4sI4s4s4s", 144 + len(table), b"lcms", 0x02400000, *kinds)
    white = struct.pack(">3i", 63190, 65536, 54061)
    head = head.ljust(36, b"\0") + b"acsp" + bytes(28) + white
    return head.ljust(128, b"\0") + tags + table


def cmyk(form, profile):
    file = io.BytesIO()
    options = {"icc_profile": profile} if profile else {}
    if form == "JPEG":
        options |= {"quality": 100, "subsampling": 0}
    Image.fromarray(INKS, "CMYK").save(file, form, **options)
    return file.getvalue()


@pytest.mark.parametrize("form", ["JPEG", "TIFF"])
def test_cmyk_by_its_profile(form, caplog):
    with ImageReader(cmyk(form, cmyk_profile()), "a") as reader:
        assert reader.header.channels == 3
        assert reader.header.metadata.icc is None
        assert reader.rows() is None
        image = reader.read().astype(int)
    assert image.min(axis=(0, 1))[0] == pytest.approx(119, abs=2)
    assert np.abs(image[:, :8] - 255).max() <= 1
    assert np.abs(image[:, 8:] - 119).max() <= 2  # L* 50.2
    assert caplog.messages == ["a: CMYK is converted to sRGB by its profile"]


@pytest.mark.parametrize("form", ["JPEG", "TIFF"])
@pytest.mark.parametrize("profile", [None, b"no profile"])
def test_cmyk_without_a_profile_that_works(form, profile, caplog):
    image = decode_image(cmyk(form, profile), "a").astype(int)
    assert np.abs(image[:, :8] - 255).max() <= 1
    assert np.abs(image[:, 8:] - (0, 255, 255)).max() <= 1
    kind = "an unusable" if profile else "no"
    assert caplog.messages == [f"a: CMYK with {kind} profile is converted by a rough formula"]


def test_ycck():
    """Photoshop stores CMYK inverted, as YCbCr and K."""
    imagecodecs = pytest.importorskip("imagecodecs")
    options = {"colorspace": "CMYK", "outcolorspace": "YCCK", "level": 100}
    image = decode_image(imagecodecs.jpeg8_encode(255 - INKS, **options), "a").astype(int)
    # Colour is subsampled by two, so the edge is soft.
    assert np.abs(image[:, :6] - 255).max() <= 2
    assert np.abs(image[:, 10:] - (0, 255, 255)).max() <= 2


def test_lab(caplog):
    """The manufacturer's values of a ColorChecker's red patch, in D50 and in sRGB."""
    lab = np.zeros((8, 8, 3), np.int8)
    lab[:] = (42 * 255 // 100, 53, 28)
    file = io.BytesIO()
    tifffile.imwrite(file, lab.view(np.uint8), photometric="cielab")
    image = decode_image(file.getvalue(), "a").astype(int)
    assert np.abs(image - (175, 54, 60)).max() <= 5
    assert caplog.messages == ["a: L*a*b* is converted to sRGB"]
