"""Resizing to an exact size, in bands of rows."""

import numpy as np
import pytest
from PIL import Image as PillowImage

from hfdn_deploy.images import imresize, resize_image, resize_planes

CUBIC = PillowImage.Resampling.BICUBIC


def in_bands(image, rows):
    return (image[top : top + rows] for top in range(0, len(image), rows))


def resized(image, size, dtype="float32", rows=7):
    """Resize an image of floats that arrives in bands of `rows` rows."""
    bands = list(resize_image(in_bands(image, rows), image.shape, size, dtype))
    return np.concatenate(bands)


def noise(*shape):
    return np.random.default_rng(0).random(shape).astype(np.float32) * 0.8 + 0.1


@pytest.mark.parametrize("rows", [1, 7, 40, 90])
@pytest.mark.parametrize("factor", [3 / 4, 5 / 6, 1 / 2, 1 / 3])
def test_whole_factors_are_matlabs(factor, rows):
    image = noise(84, 60, 3)
    expected = imresize(image, factor)
    found = resized(image, expected.shape[:2], rows=rows)
    assert np.abs(found - np.clip(expected, 0, 1)).max() < 1e-6


@pytest.mark.parametrize("size", [(61, 80), (35, 47), (90, 33), (11, 120), (7, 5)])
def test_each_axis_has_a_scale_of_its_own(size):
    """Pillow computes the same, except that it cuts off edges instead of mirroring them."""
    plane = noise(90, 120)
    other = PillowImage.fromarray(plane).resize(size[::-1], CUBIC)
    found = resized(plane, size)
    assert found.shape == size
    # The kernel reaches two pixels of the smaller image.
    assert np.abs(found - np.asarray(other))[2:-2, 2:-2].max() < 1e-5


@pytest.mark.parametrize("size", [(35, 47), (61, 80)])
def test_agrees_with_an_independent_implementation_inside(size):
    torch = pytest.importorskip("torch", exc_type=ModuleNotFoundError)
    plane = noise(90, 120)
    other = torch.nn.functional.interpolate(
        torch.from_numpy(plane)[None, None], size, mode="bicubic", antialias=True
    )
    assert np.abs(resized(plane, size) - other[0, 0].numpy())[2:-2, 2:-2].max() < 1e-5


def test_an_anchor_moves_the_samples():
    """Values of a resized ramp equal the positions of the result's samples."""
    ramp = np.tile(np.arange(64, dtype=np.float32), (1, 8, 1))
    for anchor in (0.25, 0.5):
        (found,) = resize_planes([ramp], (8, 64), (4, 32), (0.5, anchor))
        places = (np.arange(32) + anchor) * 2 - anchor
        np.testing.assert_allclose(found[0, 1, 3:-3], places[3:-3], atol=1e-4)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("channels", [(), (1,), (2,), (3,), (4,)])
def test_every_kind_is_rounded_once(dtype, channels):
    image = noise(40, 30, *channels)
    if channels in ((2,), (4,)):
        image[..., -1] = 1
    found = resized(image, (30, 24), dtype)
    white = {"uint8": 255, "uint16": 65535, "float32": 1}[dtype]
    assert found.shape == (30, 24, *channels)
    assert found.dtype == dtype
    exact = resized(image, (30, 24)).astype(np.float64) * white
    assert np.abs(found - exact).max() <= (0 if dtype == "float32" else 0.505)


def test_colours_count_by_their_alpha():
    """Transparent black does not darken the edge; Pillow agrees."""
    image = np.zeros((40, 40, 4), np.float32)
    image[:, :20] = (0.8, 0.6, 0.4, 1)
    found = resized(image, (27, 27), "uint8")
    seen = found[..., 3] > 8
    assert 13 < seen[10].sum() < 17
    assert (found[seen][:, :3] == (204, 153, 102)).all()
    other = PillowImage.fromarray((image * 255).astype(np.uint8)).resize((27, 27), CUBIC)
    alpha = np.asarray(other)[..., 3].astype(int)
    assert np.abs(found[..., 3] - alpha).max() <= 1
    # Where alpha is 0, colours are resized without weights.
    assert (found[:, -1, :3] == 0).all()


def test_what_fits_already_is_not_changed():
    image = noise(33, 65, 3)
    np.testing.assert_allclose(resized(image, (33, 65)), image, atol=1e-6)


def test_no_more_rows_are_kept_than_the_kernel_spans():
    """Rows of the result are yielded as soon as the rows that they need have arrived."""
    taken = []

    def bands():
        for top in range(0, 4000, 10):
            taken.append(top)
            yield np.zeros((1, 10, 8), np.float32)

    done = 0
    for band in resize_planes(bands(), (4000, 8), (3000, 8)):
        done += band.shape[1]
        assert taken[-1] + 10 <= done * 4 / 3 + 20
    assert done == 3000
