"""PNGs of every kind whose pixel stream is whole, cut, damaged, too long or oddly split."""

import struct
import zlib
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfdn_deploy import InputError
from hfdn_deploy.images import open_image, read_image
from tests.helpers.images import SAMPLES, chunk
from tests.helpers.profiles import fuzz

# Valid bit depths by colour type (PNG specification, 11.2.1).
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
# First column and row, and steps, of the seven passes of an interlaced image (8.2).
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
          (0, 1, 1, 2))  # fmt: skip
FILTERS = 5


@dataclass(frozen=True)
class Case:
    """A PNG and its expected properties."""

    data: bytes
    width: int
    height: int
    short: bool
    """Whether pixels are missing."""
    sound: bool
    """Whether the PNG has no defect at all."""


def row_lengths(width: int, height: int, bits: int, interlaced: bool) -> list[int]:
    """Return the bytes of each row in the stream, without the filter byte."""
    lengths = []
    for left, top, across, down in PASSES if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0:
            lengths += [-(-columns * bits // 8)] * max(0, rows)
    return lengths


@st.composite
def pngs(draw) -> Case:
    colour = draw(st.sampled_from(sorted(SAMPLES)))
    depth = draw(st.sampled_from(DEPTHS[colour]))
    width, height = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    interlaced = draw(st.booleans())
    damage = draw(st.sampled_from(["", "", "cut", "long", "filter", "check", "stream", "palette"]))
    lengths = row_lengths(width, height, SAMPLES[colour] * depth, interlaced)
    values = np.random.default_rng(draw(st.integers(0, 99)))
    content = draw(st.sampled_from([values.bytes, bytes]))  # missing pixels are black, too
    rows = [bytes([values.integers(FILTERS)]) + content(length) for length in lengths]
    if damage == "filter":
        row = draw(st.integers(0, len(rows) - 1))
        rows[row] = bytes([draw(st.integers(FILTERS, 255))]) + rows[row][1:]
    raw = b"".join(rows)
    if damage == "cut":
        raw = raw[: draw(st.integers(0, len(raw) - 1))]
    if damage == "long":
        raw += values.bytes(draw(st.integers(1, 2**16)))
    packed = zlib.compress(raw, draw(st.integers(0, 9)))
    if damage == "check":
        packed = packed[:-4] + bytes(byte ^ 1 for byte in packed[-4:])
    if damage == "stream":
        # So short that no pixel can be decoded.
        packed = packed[: draw(st.integers(0, 2))]
    entries = 2**depth if colour == 3 and damage != "palette" else draw(st.integers(1, 2))
    parts = [chunk(b"PLTE", values.bytes(3 * entries))] if colour == 3 else []
    cuts = sorted(draw(st.lists(st.integers(0, len(packed)), max_size=4)))
    for start, end in pairwise([0, *cuts, len(packed)]):
        parts.append(chunk(b"IDAT", packed[start:end]))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(parts) + chunk(b"IEND", b"")
    return Case(data, width, height, damage in ("cut", "stream"), not damage)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "a.png"


@fuzz(3000)
@given(case=pngs())
def test_any_stream_is_an_image_or_an_input_error(case, path, monkeypatch):
    monkeypatch.setattr("hfdn_deploy.images.rows.BAND_BYTES", 100)
    path.write_bytes(case.data)
    whole, in_bands = (tried(read, path) for read in (read_image, read_in_bands))
    if case.short:
        assert whole is in_bands is None
    if case.sound:
        assert whole is not None
        assert in_bands is not None
    for image in (whole, in_bands):
        assert image is None or image.shape[:2] == (case.height, case.width)
    if whole is None or in_bands is None:
        return
    np.testing.assert_array_equal(whole, in_bands)
    if case.sound and whole.dtype == np.uint8 and whole.ndim == 3 and whole.shape[2] == 3:
        decoded = cv2.imdecode(np.frombuffer(case.data, np.uint8), cv2.IMREAD_COLOR_RGB)
        np.testing.assert_array_equal(whole, decoded)


def tried(read, path):
    try:
        return read(path)
    except InputError:
        return None


def read_in_bands(path):
    return open_image(path)[:, :]
