from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hfdn_deploy.errors import InputError
from hfdn_deploy.images import decode_header, decode_image, encode_image, heif, read_header
from hfdn_deploy.images.metadata import Metadata
from hfdn_deploy.images.xmp import upright_xmp
from tests.helpers.metadata import SRGB, XMP, exif

pillow_heif = pytest.importorskip("pillow_heif")


@pytest.fixture
def smooth():
    """An RGBA image (64, 48, 4) on which HEVC loses little."""
    down, across = np.mgrid[:64, :48]
    return np.dstack([4 * down, 5 * across, 255 - 4 * down, 128 + 2 * across]).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_what_is_written_is_read(smooth, channels, tmp_path):
    image = smooth[..., [0, 3]] if channels == 2 else smooth[..., :channels].squeeze()
    exif_block = exif(1).tobytes().removeprefix(b"Exif\0\0")
    data = encode_image(image, tmp_path / "a.heic", Metadata(exif=exif_block, xmp=XMP, icc=SRGB))
    again = decode_image(data, "a.heic").astype(int)
    expected = smooth[..., [0, 0, 0, 3]] if channels == 2 else image
    assert again.shape == expected.shape
    assert np.abs(again - expected).mean() < 1.5
    metadata = decode_header(data, "a.heic").metadata
    assert metadata.xmp == upright_xmp(XMP)
    assert b"Maker\0" in (metadata.exif or b"")
    assert (metadata.icc or b"")[16:20] == (b"RGB " if channels > 1 else b"GRAY")


@pytest.mark.parametrize("bits", [10, 12])
def test_more_than_8_bits(bits, smooth, tmp_path):
    deep = smooth[..., :3].astype(np.uint16) << (bits - 8)
    mode = f"RGB;{bits}"
    image = pillow_heif.from_bytes(mode, (48, 64), deep.tobytes())
    image.save(tmp_path / "a.heic", quality=-1, chroma=444, matrix_coefficients=0)
    header = read_header(tmp_path / "a.heic")
    assert (header.dtype, header.channels) == ("uint16", 3)
    again = decode_image((tmp_path / "a.heic").read_bytes(), "a.heic")
    np.testing.assert_array_equal(again, np.round(deep * (65535 / (2**bits - 1))))


def test_an_orientation_is_applied_once(smooth, tmp_path):
    pillow_heif.register_heif_opener()
    Image.fromarray(smooth[..., :3]).save(tmp_path / "a.heic", quality=95, exif=exif(6).tobytes())
    again = decode_image((tmp_path / "a.heic").read_bytes(), "a.heic").astype(int)
    assert np.abs(again - np.rot90(smooth[..., :3], -1)).mean() < 3
    assert read_header(tmp_path / "a.heic").orientation == 1


def test_damage_is_told(smooth, tmp_path, capfd):
    data = encode_image(smooth, tmp_path / "a.heic")
    with pytest.raises(InputError, match="truncated or damaged"):
        decode_image(data[: len(data) // 2], "a.heic")
    assert capfd.readouterr().err == ""


def test_the_package_that_is_missing_is_named(smooth, tmp_path, monkeypatch):
    data = encode_image(smooth, tmp_path / "a.heic")
    monkeypatch.setattr(heif, "find_spec", lambda _: None)
    monkeypatch.setattr("hfdn_deploy.images.codecs.find_spec", lambda _: None)
    extra = r"pip install 'hfdn-deploy\[heif\]'"
    with pytest.raises(InputError, match=rf"^a\.heic is a HEIC image, which needs .*; {extra}, or"):
        decode_image(data, "a.heic")
    with pytest.raises(InputError, match=rf"a\.heic: HEIC needs pillow-heif; {extra}\.$"):
        encode_image(smooth, tmp_path / "a.heic")


def test_a_file_that_does_not_say_its_size():
    data = encode_image(np.full((64, 80, 3), 90, np.uint8), Path("a.heic"))
    assert data.count(b"ispe") == 1
    nameless = data.replace(b"ispe", b"skip")
    header = decode_header(nameless, "a.heic")
    assert (header.width, header.height) == (80, 64)
    np.testing.assert_array_equal(decode_image(nameless, "a"), decode_image(data, "a"))
