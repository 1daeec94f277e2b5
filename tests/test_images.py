import numpy as np
import pytest
import tifffile
from skimage import io

from hfdn_deploy.errors import InputError
from hfdn_deploy.images import read_image, write_image


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".bmp"])
@pytest.mark.parametrize("channels", [0, 3, 4])
def test_lossless_round_trip(tmp_path, photo, suffix, channels):
    if suffix == ".bmp" and channels == 4:
        pytest.skip("no alpha in BMP")
    image = {0: photo[..., 0], 3: photo, 4: np.dstack([photo, photo[..., 0]])}[channels]
    write_image(tmp_path / f"a{suffix}", image)
    back = read_image(tmp_path / f"a{suffix}")
    if suffix == ".webp" and channels == 0:  # which knows no grey
        image = np.dstack([image] * 3)
    np.testing.assert_array_equal(back, image)


def test_red_is_red_for_other_readers(tmp_path, photo):
    write_image(tmp_path / "a.png", photo)
    np.testing.assert_array_equal(io.imread(tmp_path / "a.png"), photo)


@pytest.mark.parametrize(("dtype", "suffix"), [("uint16", ".png"), ("float32", ".tif")])
def test_deep_images_stay_deep(tmp_path, dtype, suffix):
    image = (np.random.default_rng(0).random((5, 6, 3)) * 60000).astype(dtype)
    write_image(tmp_path / f"a{suffix}", image)
    back = read_image(tmp_path / f"a{suffix}")
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, image)


def test_camera_orientation_is_applied(tmp_path, photo):
    write_image(tmp_path / "a.jpg", photo)
    data = (tmp_path / "a.jpg").read_bytes()
    # An EXIF segment whose one entry says: rotate by 90 degrees.
    exif = bytes.fromhex(
        "ffe1 0022 457869660000 4d4d002a00000008 0001 0112 0003 00000001 00060000 00000000"
    )
    (tmp_path / "b.jpg").write_bytes(data[:2] + exif + data[2:])
    assert read_image(tmp_path / "b.jpg").shape == (photo.shape[1], photo.shape[0], 3)


@pytest.mark.parametrize("dtype", ["float64", "int16", "int32"])
@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 3)])
def test_other_depths_are_refused(tmp_path, dtype, shape):
    photometric = "rgb" if len(shape) == 3 else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", np.ones(shape, dtype), photometric=photometric)
    with pytest.raises(InputError, match=r"a\.tif (holds|is no image)"):
        read_image(tmp_path / "a.tif")


def test_bad_files_are_named(tmp_path, photo):
    write_image(tmp_path / "whole.png", photo)
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "header.png").write_bytes((tmp_path / "whole.png").read_bytes()[:30])
    for name in ("empty.png", "text.png", "header.png", "missing.png"):
        with pytest.raises(InputError, match=name):
            read_image(tmp_path / name)
    with pytest.raises(InputError, match="cannot be read"):
        read_image(tmp_path)


@pytest.mark.parametrize(
    ("name", "image", "message"),
    [
        ("a.xyz", np.zeros((2, 2), np.uint8), "no image format"),
        ("a.jpg", np.zeros((2, 2), np.uint16), "cannot hold uint16"),
        ("a.png", np.zeros((2, 2), np.float32), "cannot hold float32"),
        ("a.jpg", np.zeros((2, 2, 4), np.uint8), "cannot hold transparency"),
        ("a.webp", np.zeros((2, 17000, 3), np.uint8), "cannot hold an image of 17000×2"),
        ("a.jpg", np.zeros((2, 70000, 3), np.uint8), "cannot hold an image of 70000×2"),
    ],
)
def test_unwritable_leaves_nothing(tmp_path, name, image, message):
    with pytest.raises(InputError, match=message):
        write_image(tmp_path / name, image)
    assert not list(tmp_path.iterdir())
