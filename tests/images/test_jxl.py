import io

import numpy as np
import pytest
from PIL import Image

from hfdn_deploy.errors import InputError
from hfdn_deploy.images import decode_header, decode_image, encode_image, jxl
from hfdn_deploy.images.metadata import Metadata
from tests.helpers.metadata import SRGB, exif

imagecodecs = pytest.importorskip("imagecodecs")
pytest.importorskip("pillow_jxl")


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("container", [False, True])
def test_every_depth_is_read_as_it_is(dtype, channels, container):
    image = np.random.default_rng(0).random((7, 9, channels)).astype(np.float32)
    if dtype != "float32":
        image = (image * np.iinfo(dtype).max).astype(dtype)
    image = image[..., 0] if channels == 1 else image
    data = imagecodecs.jpegxl_encode(image, lossless=True, usecontainer=container)
    np.testing.assert_array_equal(decode_image(data, "a.jxl"), image)
    header = decode_header(data, "a.jxl")
    assert (header.width, header.height, header.channels) == (9, 7, channels)
    assert header.dtype == dtype


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_what_is_written_is_read(tmp_path, channels):
    image = np.random.default_rng(0).integers(0, 256, (7, 9, channels), np.uint8)
    image = image[..., 0] if channels == 1 else image
    block = exif(1).tobytes().removeprefix(b"Exif\0\0")
    data = encode_image(image, tmp_path / "a.jxl", Metadata(exif=block))
    np.testing.assert_array_equal(decode_image(data, "a.jxl"), image)
    assert b"Maker\0" in (decode_header(data, "a.jxl").metadata.exif or b"")


def test_a_quality(tmp_path, photo):
    data = encode_image(photo, tmp_path / "a.jxl", quality=90)
    assert len(data) < len(encode_image(photo, tmp_path / "a.jxl")) / 2
    assert np.abs(decode_image(data, "a.jxl").astype(int) - photo).mean() < 3


def test_an_animation_is_told(caplog):
    frames = np.random.default_rng(0).integers(0, 256, (3, 7, 9, 3), np.uint8)
    data = imagecodecs.jpegxl_encode(frames, lossless=True)
    np.testing.assert_array_equal(decode_image(data, "a.jxl"), frames[0])
    assert caplog.messages == ["a.jxl: only the first of its images is read"]


@pytest.mark.parametrize(
    "size", [(8, 8), (13, 17), (9000, 7), (32, 24), (128, 64), (160, 90), (40, 48), (300, 200)]
)
def test_the_size_is_known_before_anything_is_decoded(size, monkeypatch):
    width, height = size
    data = imagecodecs.jpegxl_encode(np.zeros((height, width), np.uint8))
    assert jxl.Jxl.size_before(io.BytesIO(data)) == size
    monkeypatch.setattr(imagecodecs, "jpegxl_decode", None)
    monkeypatch.setattr("hfdn_deploy.images.reading.MAX_PIXELS", width * height - 1)
    with pytest.raises(InputError, match=f"^a is {width}×{height} pixels, more than"):
        decode_image(data, "a")


def test_profile_and_orientation_of_a_jpeg_in_it(tmp_path):
    """JPEG XL can hold a losslessly recompressed JPEG with its metadata."""
    import pillow_jxl

    file = io.BytesIO()
    image = Image.effect_mandelbrot((32, 24), (-2, -1, 1, 1), 9)
    image.convert("RGB").save(file, "JPEG", exif=exif(6), icc_profile=SRGB)
    packed = pillow_jxl.Encoder(mode="RGB", lossless=True)(
        file.getvalue(), 32, 24, jpeg_encode=True
    )
    header = decode_header(packed, "a.jxl")
    assert header.metadata.icc == SRGB
    assert (header.width, header.height, header.orientation) == (24, 32, 1)
    expected = decode_image(file.getvalue(), "a.jpg").astype(int)
    assert np.abs(decode_image(packed, "a.jxl") - expected).mean() < 1


def test_damage_is_told(capfd):
    data = imagecodecs.jpegxl_encode(np.zeros((64, 48, 3), np.uint8))
    with pytest.raises(InputError, match="truncated or damaged"):
        decode_image(data[: len(data) // 2], "a.jxl")
    assert capfd.readouterr().err == ""


def test_the_packages_that_are_missing_are_named(tmp_path, monkeypatch):
    data = imagecodecs.jpegxl_encode(np.zeros((7, 9), np.uint8))
    monkeypatch.setattr(jxl, "find_spec", lambda _: None)
    monkeypatch.setattr("hfdn_deploy.images.codecs.find_spec", lambda _: None)
    extra = r"pip install 'hfdn-deploy\[codecs\]'"
    message = rf"^a\.jxl is a JPEG XL image, which needs .*; {extra}, or"
    with pytest.raises(InputError, match=message):
        decode_image(data, "a.jxl")
    with pytest.raises(InputError, match=rf"JPEG XL needs pillow-jxl-plugin; {extra}\.$"):
        encode_image(np.zeros((7, 9), np.uint8), tmp_path / "a.jxl")
