from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfdn_deploy.bench import luma8
from hfdn_deploy.errors import InputError
from hfdn_deploy.images import WHITE, ImagePlanes, check_image, colour

SHAPES = [(), (1,), (2,), (3,), (4,)]


def enlarge(plane, scale):
    size = (plane.shape[1] * scale, plane.shape[0] * scale)
    return cv2.resize(plane, size, interpolation=cv2.INTER_CUBIC).reshape(size[::-1])


def upscale(image, scale):
    """Upscale an image with bicubic interpolation in place of the network."""
    return with_luma(image, enlarge(ImagePlanes(image).luma, scale))


def with_luma(image, *bands):
    return np.concatenate(list(ImagePlanes(image).with_luma(bands)))


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(SHAPES),
    st.sampled_from(["uint8", "uint16", "float32"]),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(0, 2**32 - 1),
)
def test_taking_apart_loses_nothing(channels, dtype, height, width, seed):
    rng = np.random.default_rng(seed)
    image = rng.random((height, width, *channels)) * WHITE[dtype]
    image = np.rint(image).astype(dtype) if dtype != "float32" else image.astype(dtype)
    if channels in ((2,), (4,)):
        image[..., -1] = WHITE[dtype]
    back = upscale(image, 1)
    assert (back.dtype, back.shape) == (image.dtype, image.shape)
    allowed = 0 if dtype == "uint8" else 1 if dtype == "uint16" else 1e-5
    assert np.abs(back.astype(float) - image).max() <= allowed


def test_luma_is_that_of_the_protocol(photo):
    np.testing.assert_array_equal(np.rint(ImagePlanes(photo).luma * 255), luma8(photo))


def test_grey_is_its_own_luma(photo):
    grey = photo[..., 0]
    np.testing.assert_allclose(ImagePlanes(grey).luma, grey / 255, atol=1e-7)
    np.testing.assert_array_equal(ImagePlanes(grey[..., None]).luma, ImagePlanes(grey).luma)


def test_sixteen_bits_are_judged_by_dtype_not_by_values():
    dark = np.full((3, 4, 3), 200, np.uint16)
    back = upscale(dark, 2)
    assert back.dtype == np.uint16
    assert np.abs(back.astype(int) - 200).max() <= 1


@pytest.mark.parametrize("background", [0, 255, 128])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_transparency_leaves_no_halo(background, dtype):
    white = WHITE[dtype]
    y, x = np.indices((40, 44))
    alpha = np.clip(14.5 - np.hypot(y - 20, x - 20), 0, 1)  # a disc with a soft edge
    image = np.empty((40, 44, 4))
    image[..., :3] = background / 255 * white
    image[alpha > 0, :3] = np.array([0.8, 0.3, 0.1]) * white
    image[..., 3] = alpha * white
    big = upscale(image.astype(dtype), 4).astype(float) / white
    visible = big[..., 3] > 1 / 255
    assert visible.sum() > 16 * 600
    assert np.abs(big[visible][:, :3] - [0.8, 0.3, 0.1]).max() < 0.02


def composite(image):
    """Composite over white, in levels of 255."""
    alpha = image[..., 3:].astype(float) / 255
    return image[..., :3] * alpha + 255 * (1 - alpha)


@pytest.mark.parametrize("colours", [((255, 255, 255), (0, 0, 0)), ((255, 0, 0), (0, 255, 0))])
@pytest.mark.parametrize("opacity", [40, 51, 150])
def test_the_edge_of_a_shadow_is_that_of_premultiplied_resampling(colours, opacity):
    image = np.zeros((16, 24, 4), np.uint8)
    image[:, :12] = (*colours[0], 255)
    image[:, 12:] = (*colours[1], opacity)
    size = (96, 64)
    alpha = cv2.resize(image[..., 3].astype(np.float32), size, interpolation=cv2.INTER_CUBIC)
    premultiplied = image[..., :3].astype(np.float32) * image[..., 3:] / 255
    colour = cv2.resize(premultiplied, size, interpolation=cv2.INTER_CUBIC)
    expected = np.dstack([colour / alpha[..., None] * 255, alpha])
    expected = composite(np.clip(expected, 0, 255))
    assert np.abs(composite(upscale(image, 4)) - expected).max() <= 2


@pytest.mark.parametrize("opacity", [40, 51, 150])
def test_a_network_that_sharpens_draws_no_line_beside_a_shadow(opacity):
    image = np.zeros((16, 24, 4), np.uint8)
    image[:, :12] = 255
    image[:, 12:, 3] = opacity
    sharpest = np.repeat(np.repeat(ImagePlanes(image).luma, 4, 0), 4, 1)
    big = composite(with_luma(image, sharpest))
    assert big.min() > composite(image).min() - 3


def test_even_transparency_keeps_the_networks_detail(photo):
    image = np.dstack([photo, np.full_like(photo[..., 0], 100)])
    luma = enlarge(ImagePlanes(photo).luma, 2)
    luma += np.random.default_rng(0).normal(0, 0.02, luma.shape).astype(np.float32)
    opaque = with_luma(photo, luma)
    translucent = with_luma(image, luma)
    assert np.abs(translucent[..., :3].astype(int) - opaque).max() <= 1
    assert (translucent[..., 3] == 100).all()


def test_nearly_transparent_noise_does_not_bleed():
    image = np.zeros((20, 20, 4), np.uint8)
    image[:, :10] = (200, 100, 50, 255)
    image[:, 10:] = (0, 255, 0, 1)
    big = upscale(image, 2)
    assert np.abs(big[:, :18, :3].astype(int) - (200, 100, 50)).max() <= 8


def test_alpha_is_bicubic(photo):
    image = np.dstack([photo, photo[..., 1]])
    expected = np.clip(np.rint(enlarge(photo[..., 1].astype(np.float32), 2)), 0, 255)
    np.testing.assert_allclose(upscale(image, 2)[..., 3], expected, atol=1)


@pytest.mark.parametrize("channels", SHAPES)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bands_make_the_whole(photo, channels, scale, monkeypatch):
    image = np.dstack([photo, np.roll(photo[..., 1], 20, 0) // 2 + 100])[:60, :50]
    image[20:40, 10:30, 3] = 255
    image = image[..., : (channels or (1,))[0]].reshape(60, 50, *channels)
    if channels == (2,):
        image[..., 1] = np.arange(60)[:, None] * 4
    luma = enlarge(ImagePlanes(image).luma, scale)
    whole = with_luma(image, luma)
    assert whole.shape == (60 * scale, 50 * scale, *channels)
    monkeypatch.setattr(colour, "BAND_PIXELS", 50 * 5 * scale**2)
    bands = list(ImagePlanes(image).with_luma([luma[: 13 * scale], luma[13 * scale :]]))
    assert [len(band) // scale for band in bands] == [5, 5, 3, *[5] * 9, 2]
    difference = np.abs(np.concatenate(bands).astype(int) - whole)
    assert difference.max() <= 1  # enlarged planes start elsewhere and round differently
    assert (difference > 0).mean() < 1e-3


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_memory_that_is_kept_is_in_no_result(photo, dtype):
    def upscaled(image):
        (band,) = ImagePlanes(image).with_luma([enlarge(ImagePlanes(image).luma, 2)])
        return band

    image = photo if dtype == "uint8" else photo / np.float32(255)
    images = [image[:size, :size] for size in (30, 40, 20)]
    results = [upscaled(image) for image in images]
    before = [result.copy() for result in results]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(upscaled, images * 4))
    for number, result in enumerate(results + together):
        np.testing.assert_array_equal(result, before[number % 3])


@pytest.mark.parametrize("box", [(0, 60, 0, 50), (3, 4, 5, 6), (59, 60, 20, 50)])
def test_luma_of_a_region_is_that_of_the_whole(photo, box):
    top, bottom, left, right = box
    image = np.dstack([photo, photo[..., 1]])[:60, :50]
    picture = ImagePlanes(image)
    expected = picture.luma[top:bottom, left:right]
    np.testing.assert_allclose(picture[top:bottom, left:right], expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((3, 0, 3), np.uint8), "no pixel"),
        (np.zeros((2, 2, 5), np.uint8), r"neither \(H, W\)"),
        (np.zeros(4, np.uint8), r"neither \(H, W\)"),
        (np.zeros((2, 2), np.float64), "float64"),
        (np.zeros((2, 2), np.int32), "int32"),
        (np.full((2, 2), 1.5, np.float32), "from 1.5 to 1.5"),
        (np.full((2, 2), np.nan, np.float32), "NaN"),
    ],
)
def test_other_arrays_are_refused(image, message):
    with pytest.raises(InputError, match=message):
        check_image(image)
        ImagePlanes(image)
