"""Colour metadata of files: carried over, converted to a profile, or lost with a warning."""

import struct

import numpy as np
import pytest
from PIL import Image

from hfdn_deploy.images import Metadata, read_header, read_image, write_image
from hfdn_deploy.images.icc import profile_of_cicp
from tests.helpers.images import chunk, png
from tests.helpers.metadata import as_shown

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
SRGB_CHROMATICITIES = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)


def gamma_chunk(gamma):
    return chunk(b"gAMA", struct.pack(">I", round(gamma * 1e5)))


def chromaticities_chunk(*values):
    return chunk(b"cHRM", struct.pack(">8I", *values))


def cicp_chunk(primaries, transfer):
    return chunk(b"cICP", bytes([primaries, transfer, 0, 1]))


def saved(path, *chunks, pixels=PIXELS):
    path.write_bytes(png(pixels, 2 if pixels.ndim == 3 else 0, 8, *chunks))
    return read_header(path).metadata


@pytest.mark.parametrize("target", ["b.jpg", "b.webp", "b.tif", "b.avif"])
def test_a_linear_png_stays_linear(tmp_path, target):
    metadata = saved(tmp_path / "a.png", gamma_chunk(1))
    write_image(tmp_path / target, np.full((12, 16, 3), 55, np.uint8), metadata)
    # 255 * (1.055 * (55 / 255)^(1 / 2.4) - 0.055), by the curve of sRGB
    assert np.abs(as_shown(tmp_path / target).astype(int) - 128).max() <= 2


def test_primaries_of_a_png_are_said_by_a_profile(tmp_path):
    """Red and green are exchanged, so that the profile has a visible effect."""
    swapped = (*SRGB_CHROMATICITIES[:2], *SRGB_CHROMATICITIES[4:6], *SRGB_CHROMATICITIES[2:4])
    chunks = gamma_chunk(0.45455), chromaticities_chunk(*swapped, *SRGB_CHROMATICITIES[6:])
    metadata = saved(tmp_path / "a.png", *chunks)
    write_image(tmp_path / "b.tif", np.full((12, 16, 3), (255, 0, 0), np.uint8), metadata)
    assert as_shown(tmp_path / "b.tif")[0, 0] == pytest.approx((0, 255, 0), abs=3)


@pytest.mark.parametrize(
    "chunks",
    [
        (gamma_chunk(0.45455),),
        (gamma_chunk(0.45455), chromaticities_chunk(*SRGB_CHROMATICITIES)),
        (gamma_chunk(0.5), chunk(b"sRGB", b"\0")),
        (cicp_chunk(1, 13),),
        (cicp_chunk(2, 2),),
    ],
    ids=["gamma", "primaries", "sRGB", "cICP", "unspecified"],
)
@pytest.mark.parametrize("target", ["b.jpg", "b.avif", "b.bmp"])
def test_srgb_needs_no_profile(tmp_path, caplog, chunks, target):
    metadata = saved(tmp_path / "a.png", *chunks)
    write_image(tmp_path / target, PIXELS, metadata)
    with Image.open(tmp_path / target) as image:
        assert "icc_profile" not in image.info
    assert not caplog.messages


@pytest.mark.parametrize(
    "chunks",
    [
        (gamma_chunk(1), chromaticities_chunk(*SRGB_CHROMATICITIES)),
        (cicp_chunk(9, 16),),
        (chunk(b"sRGB", b"\1"), gamma_chunk(0.45455)),
    ],
    ids=["gamma", "cICP", "sRGB"],
)
def test_a_png_keeps_the_chunks_of_a_png(tmp_path, chunks):
    metadata = saved(tmp_path / "a.png", *chunks)
    write_image(tmp_path / "b.png", PIXELS, metadata)
    data = (tmp_path / "b.png").read_bytes()
    assert all(each in data for each in chunks)
    assert data.index(chunks[0]) < data.index(b"IDAT")


def test_cicp_goes_from_png_to_avif_and_back(tmp_path):
    metadata = saved(tmp_path / "a.png", cicp_chunk(9, 16))
    write_image(tmp_path / "b.avif", PIXELS, metadata, 100)
    assert b"colrnclx" + struct.pack(">HH", 9, 16) in (tmp_path / "b.avif").read_bytes()
    header = read_header(tmp_path / "b.avif")
    assert header.metadata.cicp == (9, 16)
    write_image(tmp_path / "c.png", PIXELS, header.metadata)
    assert cicp_chunk(9, 16) in (tmp_path / "c.png").read_bytes()
    with Image.open(tmp_path / "b.avif") as image:  # its pixels have not changed
        assert np.abs(np.asarray(image).astype(int) - PIXELS).mean() < 3


@pytest.mark.parametrize("transfer", [1, 4, 8, 13])
def test_cicp_becomes_a_profile(tmp_path, transfer):
    metadata = saved(tmp_path / "a.png", cicp_chunk(12, transfer))  # Display P3
    write_image(tmp_path / "b.webp", PIXELS, metadata)
    with Image.open(tmp_path / "b.webp") as image:
        assert image.info["icc_profile"] == profile_of_cicp(12, transfer, grey=False)
    shown = as_shown(tmp_path / "b.webp").astype(int)
    linear = {1: _bt709, 4: lambda v: v**2.2, 8: lambda v: v, 13: _srgb}[transfer](PIXELS / 255)
    # Colours outside sRGB are clipped, so only greys and near greys are compared.
    expected = np.clip(linear @ _P3_TO_SRGB.T, 0, 1)
    inside = ((linear @ _P3_TO_SRGB.T > 0.02) & (linear @ _P3_TO_SRGB.T < 1)).all(axis=2)
    encoded = np.where(
        expected > 0.0031308, 1.055 * expected ** (1 / 2.4) - 0.055, 12.92 * expected
    )
    assert inside.sum() > 30
    assert np.abs(shown - 255 * encoded)[inside].max() <= 3


# From linear Display P3 to linear sRGB, both with the white D65.
_P3_TO_SRGB = np.array([[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]])


def _bt709(v):
    return np.where(v < 0.081, v / 4.5, ((v + 0.099) / 1.099) ** (1 / 0.45))


def _srgb(v):
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


@pytest.mark.parametrize("target", ["b.jpg", "b.webp", "b.bmp"])
def test_high_dynamic_range_that_no_profile_says_is_told(tmp_path, caplog, target):
    metadata = saved(tmp_path / "a.png", cicp_chunk(9, 16))
    write_image(tmp_path / target, PIXELS, metadata)
    assert f"{target}: no profile describes the colours of the source" in caplog.text


@pytest.mark.parametrize("pixels", [PIXELS, PIXELS[:5, :3, 0]], ids=["colour", "grey"])
def test_a_bmp_keeps_the_profile(tmp_path, caplog, pixels):
    profile = profile_of_cicp(12, 13, grey=pixels.ndim == 2)
    for name, metadata in (("a.bmp", Metadata()), ("b.bmp", Metadata(icc=profile, dpi=(90, 90)))):
        write_image(tmp_path / name, pixels, metadata)
    header = read_header(tmp_path / "b.bmp")
    assert (header.metadata.icc, caplog.messages) == (profile, [])
    assert header.metadata.dpi == pytest.approx((90, 90), rel=1e-3)
    np.testing.assert_array_equal(read_image(tmp_path / "b.bmp"), pixels)
    bare, data = ((tmp_path / name).read_bytes() for name in ("a.bmp", "b.bmp"))
    assert len(data) == len(bare) + 84 + len(profile) == int.from_bytes(data[2:6], "little")
    start = int.from_bytes(data[10:14], "little")
    assert data[start : -len(profile)] == bare[start - 84 :]


def test_colours_that_a_bmp_cannot_name_become_a_profile(tmp_path):
    write_image(tmp_path / "b.bmp", PIXELS, Metadata(cicp=(12, 13)))
    icc = read_header(tmp_path / "b.bmp").metadata.icc
    assert icc == profile_of_cicp(12, 13, grey=False)


def test_a_damaged_chunk_says_nothing(tmp_path):
    for bad in (gamma_chunk(0), chromaticities_chunk(*[0] * 8)):
        metadata = saved(tmp_path / "a.png", bad)
        write_image(tmp_path / "b.jpg", PIXELS, metadata)
