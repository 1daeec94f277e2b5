import numpy as np
import pytest
from skimage.metrics import structural_similarity

from hfdn_deploy.bench import (
    crop_to_multiple,
    degrade,
    load_luma_set,
    luma8,
    photographs,
    psnr,
    ssim,
    to_levels,
)
from hfdn_deploy.errors import InputError
from hfdn_deploy.images import imresize, write_image
from tests.helpers.paths import SHARED

# Bicubic PSNR in dB of the published tables.
PUBLISHED = {
    "Set5": {2: 33.66, 3: 30.39, 4: 28.42},
    "Set14": {2: 30.23, 3: 27.54, 4: 26.00},
}


def bicubic_psnr(image, scale):
    hr = crop_to_multiple(image, scale)
    return psnr(to_levels(imresize(degrade(hr, scale), scale)), hr, scale)


@pytest.mark.skipif(not SHARED.exists(), reason="the evaluation images are not here")
@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_is_the_published_one(name, scale):
    images = load_luma_set(SHARED / "eval" / name)
    mean = np.mean([bicubic_psnr(image, scale) for image in images.values()])
    assert mean == pytest.approx(PUBLISHED[name][scale], abs=0.01)


# Measured with the implementation that gives the published figures above.
@pytest.mark.parametrize(
    ("name", "scale", "expected"),
    [("camera", 2, 29.90), ("chelsea", 3, 32.88), ("coffee", 4, 27.29)],
)
def test_bicubic_on_photographs(name, scale, expected):
    assert bicubic_psnr(luma8(photographs()[name]), scale) == pytest.approx(expected, abs=0.005)


def test_psnr_by_hand():
    a = np.zeros((10, 10), np.uint8)
    b = a.copy()
    assert psnr(a, b) == np.inf
    b[4, 4] = 10
    assert psnr(a, b) == pytest.approx(10 * np.log10(255**2 / 1))
    b[0] = 255
    assert psnr(a, b, border=1) == pytest.approx(10 * np.log10(255**2 / (100 / 64)))


def test_ssim_is_scikit_images():
    a = luma8(photographs()["chelsea"])
    b = to_levels(a + np.random.default_rng(0).normal(0, 12, a.shape))
    expected = structural_similarity(
        a, b, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim(a, b) == pytest.approx(expected, abs=1e-6)
    assert ssim(a, a) == pytest.approx(1)
    assert ssim(a[2:-2, 2:-2], b[2:-2, 2:-2]) == pytest.approx(ssim(a, b, border=2))


def test_luma_of_known_colours():
    colours = {(0, 0, 0): 16, (255, 255, 255): 235, (255, 0, 0): 81, (0, 255, 0): 145}
    image = np.array([list(colours)], np.uint8)
    np.testing.assert_array_equal(luma8(image)[0], list(colours.values()))
    grey = np.arange(256, dtype=np.uint8)[None]
    np.testing.assert_array_equal(luma8(grey), grey)
    np.testing.assert_array_equal(luma8(np.dstack([grey, 255 - grey])), grey)
    with pytest.raises(InputError, match="8-bit"):
        luma8(grey.astype(np.uint16))


def test_sets_are_read_by_name(tmp_path, photo):
    write_image(tmp_path / "b.png", photo)
    write_image(tmp_path / "a.png", photo[..., 0])
    (tmp_path / "note.txt").write_text("no image")
    images = load_luma_set(tmp_path)
    assert list(images) == ["a.png", "b.png"]
    np.testing.assert_array_equal(images["b.png"], luma8(photo))
    with pytest.raises(InputError, match="no image"):
        load_luma_set(tmp_path / "nowhere")
    write_image(tmp_path / "c.png", photo[:22])
    with pytest.raises(InputError, match=r"c.png has a side of less than 23 pixels"):
        load_luma_set(tmp_path)
    write_image(tmp_path / "c.png", photo.astype(np.uint16))
    with pytest.raises(InputError, match=r"c.png: .* 8-bit"):
        load_luma_set(tmp_path)
