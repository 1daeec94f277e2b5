from pathlib import Path

import numpy as np
import pytest
import tifffile
from skimage import io as skio

from hfdn_deploy.errors import InputError
from hfdn_deploy.images import (
    FORMATS,
    check_fits,
    read_image,
    write_image,
)


def with_channels(photo, channels):
    """Return the photograph with 1 to 4 channels, or as (H, W) for 0; alpha varies."""
    rgba = np.dstack([photo, photo[..., 0]])
    return {0: photo[..., 0], 1: photo[..., :1], 2: photo[..., :2], 3: photo, 4: rgba}[channels]


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".bmp"])
@pytest.mark.parametrize("channels", [0, 1, 2, 3, 4])
def test_lossless_round_trip(tmp_path, photo, suffix, channels):
    if suffix == ".bmp" and channels in (2, 4):
        pytest.skip("no alpha in BMP")
    image = with_channels(photo, channels)
    write_image(tmp_path / f"a{suffix}", image)
    back = read_image(tmp_path / f"a{suffix}")
    image = image[..., 0] if channels == 1 else image
    if suffix == ".webp" and channels < 3:  # WebP has no grey
        image = np.dstack([image[..., :1]] * 3 + [image[..., 1:]]) if channels == 2 else image
        image = np.dstack([image] * 3) if image.ndim == 2 else image
    np.testing.assert_array_equal(back, image)


def test_red_is_red_for_other_readers(tmp_path, photo):
    for name in ("a.png", "a.tif"):
        write_image(tmp_path / name, photo)
        np.testing.assert_array_equal(skio.imread(tmp_path / name), photo)


@pytest.mark.parametrize("channels", [0, 2, 3, 4])
@pytest.mark.parametrize(
    ("dtype", "suffix"), [("uint16", ".png"), ("uint16", ".tif"), ("float32", ".tif")]
)
def test_deep_images_stay_deep(tmp_path, dtype, suffix, channels):
    shape = (45, 56, channels) if channels else (45, 56)
    image = (np.random.default_rng(0).random(shape) * 60000).astype(dtype)
    path = tmp_path / f"a{suffix}"
    write_image(path, image[:, ::-1][:, ::-1])
    if suffix == ".tif":
        np.testing.assert_array_equal(tifffile.imread(path), image)
    back = read_image(path)
    assert back.dtype == dtype
    if channels == 2 and suffix == ".png":  # written as colour
        image = np.dstack([image[..., :1]] * 3 + [image[..., 1:]])
    np.testing.assert_array_equal(back, image)


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif"])
def test_quality(tmp_path, photo, suffix):
    sizes = []
    for quality in (20, 60, None):
        write_image(tmp_path / f"a{suffix}", photo, quality=quality)
        sizes.append((tmp_path / f"a{suffix}").stat().st_size)
        back = read_image(tmp_path / f"a{suffix}")
    assert sizes == sorted(sizes)
    assert np.abs(back.astype(float) - photo).mean() < 3


@pytest.mark.parametrize(
    ("name", "image", "message"),
    [
        ("a.xyz", np.zeros((2, 2), np.uint8), "unknown image format '.xyz'; choose one of"),
        ("a.jpg", np.zeros((2, 2), np.uint16), r"cannot hold uint16 pixels; choose .png or .tif"),
        ("a.png", np.zeros((2, 2), np.float32), "cannot hold float32"),
        ("a.tif", np.zeros((2, 2), np.float64), "cannot hold float64"),
        ("a.jpg", np.zeros((2, 2, 4), np.uint8), "cannot hold transparency"),
        ("a.bmp", np.zeros((2, 2, 2), np.uint8), "cannot hold transparency"),
        ("a.webp", np.zeros((2, 17000, 3), np.uint8), "cannot hold an image of 17000×2"),
        ("a.jpg", np.zeros((2, 70000, 3), np.uint8), "cannot hold an image of 70000×2"),
        ("a.avif", np.zeros((2, 70000, 3), np.uint8), "cannot hold an image of 70000×2"),
    ],
)
def test_unwritable_leaves_nothing(tmp_path, name, image, message):
    with pytest.raises(InputError, match=message):
        write_image(tmp_path / name, image)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp", "a.jpg", "a.webp", "a.avif"])
def test_a_large_side_is_written_where_the_format_has_room(tmp_path, name):
    side = FORMATS[f".{name[2:]}"].max_side
    image = np.zeros((1, min(side, 100_000), 3), np.uint8)
    write_image(tmp_path / name, image)
    assert read_image(tmp_path / name).shape == image.shape


@pytest.mark.parametrize("suffix", [".tif", ".bmp"])
def test_what_more_than_4_gib_would_need_is_refused_before_it_is_begun(suffix):
    check_fits(Path("a.png"), 60_000, 60_000, 3, "uint8")
    with pytest.raises(InputError, match=rf"{suffix} cannot hold an image of 60000×60000; .* .png"):
        check_fits(Path(f"a{suffix}"), 60_000, 60_000, 3, "uint8")
