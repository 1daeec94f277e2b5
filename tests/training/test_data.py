import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hfdn_deploy.bench import luma8, to_levels
from hfdn_deploy.errors import InputError
from hfdn_deploy.images import write_image
from training.data import Patches, load_folders


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_patches_are_aligned(images, scale):
    patches = Patches(images, scale, 96, "cpu")
    lr, hr = patches.cut(patches.draw(8, seed=0, step=3))
    assert lr.shape == (8, 1, 96 // scale, 96 // scale)
    assert hr.shape == (8, 1, 96, 96)
    bicubic = F.interpolate(lr, scale_factor=scale, mode="bicubic", antialias=True)
    aligned = F.l1_loss(bicubic, hr)
    for misaligned in (hr.flip(2), hr.flip(3), hr.transpose(2, 3), hr.roll(scale, 2)):
        assert aligned < 0.8 * F.l1_loss(bicubic, misaligned)


def test_batches_repeat_with_seed_and_step_and_differ_else(images):
    patches = Patches(images, 4, 48, "cpu")
    first = patches.draw(4, 7, 5)
    assert torch.equal(first, patches.draw(4, 7, 5))
    assert not torch.equal(first, patches.draw(4, 7, 6))
    assert not torch.equal(first, patches.draw(4, 8, 5))


def test_all_symmetries_and_all_images_occur():
    # Patches as large as the image can only differ by their symmetry.
    image = np.arange(48 * 48, dtype=np.uint16).reshape(48, 48)
    image = (image * 251 % 256).astype(np.uint8)
    patches = Patches([image], 2, 48, "cpu")
    _, hr = patches.cut(patches.draw(200, 0, 0))
    seen = {to_levels(p[0].numpy() * 255).tobytes() for p in hr}
    square = [np.rot90(x, k) for x in (image, image.T) for k in range(4)]
    assert seen == {x.tobytes() for x in square}


def test_large_images_are_drawn_by_area():
    small, large = np.full((48, 48), 10, np.uint8), np.full((96, 144), 200, np.uint8)
    patches = Patches([small, large], 4, 48, "cpu")
    _, hr = patches.cut(patches.draw(2000, 0, 0))
    # Positions of a patch's corner on the LR grid: 1 in one image, 13 × 25 in the other.
    assert (hr[:, 0, 0, 0] < 0.5).float().mean() == pytest.approx(1 / 326, abs=0.005)


def test_smaller_copies_are_drawn_unless_smaller_than_a_patch():
    ramp = np.tile(np.arange(192, dtype=np.uint8), (96, 1))

    def slopes(sizes):
        patches = Patches([ramp], 2, 48, "cpu", sizes)
        _, hr = patches.cut(patches.draw(2000, 0, 0))
        # Symmetries turn the ramp; the inner part is free of the copies' edges.
        dy, dx = (hr[:, 0].diff(dim=d)[:, 8:-8, 8:-8].abs().mean((1, 2)) * 255 for d in (1, 2))
        return torch.maximum(dy, dx)

    assert slopes((1.0,)).numpy() == pytest.approx(1)
    assert slopes((1.0, 0.4)).numpy() == pytest.approx(1)
    # Positions of a patch's corner on the LR grid: 25 × 73 in the image, 1 × 25 in its copy.
    found = slopes((1.0, 0.5)).round()
    assert set(found.tolist()) == {1, 2}
    assert (found == 2).float().mean() == pytest.approx(1 / 74, abs=0.01)


def test_folders(tmp_path, images, photo):
    for i in range(64):
        write_image(tmp_path / "a" / f"{i:02}.png", photo) if i else (tmp_path / "a").mkdir()
    (tmp_path / "DIV2K-luma-crops").mkdir()
    write_image(tmp_path / "DIV2K-luma-crops" / "x.png", np.array([[0, 255]], np.uint8))
    training, validation = load_folders([tmp_path])
    assert (len(training), len(validation)) == (63, 1)
    np.testing.assert_array_equal(training[0], [[16, 235]])
    np.testing.assert_array_equal(training[1], luma8(photo))
    with pytest.raises(InputError, match="not a folder"):
        load_folders([tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no images below"):
        load_folders([tmp_path / "empty"])
