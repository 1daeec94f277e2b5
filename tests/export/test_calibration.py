"""Calibration images, and statistics of a graph's tensors."""

import numpy as np
import pytest

from export.calibration import CROP, GRID, SHARP, calibration_inputs, load_pictures, observe
from export.layers import layer_macs, observed_tensors
from export.sessions import open_outputs
from hfdn_deploy.errors import InputError
from hfdn_deploy.images import write_image
from tests.helpers.graphs import load_graph


def test_observation_is_what_the_tensors_hold():
    model, pictures = load_graph("fp32"), load_pictures(None, 4)
    names = observed_tensors(model, layer_macs(model))
    assert {"lr", "shallow1", "concat", "heads.d.deconv.leakyrelu"} <= set(names)
    downscaled = [pair.lr for pair in pictures.calibration[:2]]
    sharp = [np.flip(lr, 3).copy() for lr in downscaled[:1]]
    seen = observe(model, names[:3], {"downscaled": downscaled, "sharp": sharp})[names[2]]
    run = open_outputs(model, [names[2]])
    values = [run(lr)[0][0].reshape(48, -1) for lr in (*downscaled, *sharp)]
    weights = np.array([0.15, 0.15, 1.0]) / 1.3
    np.testing.assert_allclose(seen.limits, np.max([np.abs(v).max(1) for v in values], 0))
    means = weights @ [v.mean(1) for v in values]
    np.testing.assert_allclose(seen.means, means, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(seen.shares.sum(1), 1)
    # The midpoints of the bins are within half a bin of the values.
    binned = (seen.shares * seen.centres).sum(1)
    assert (np.abs(binned - means) <= seen.limits / 1024).all()
    above = weights @ [(v > seen.limits[:, None] / 2).mean(1) for v in values]
    np.testing.assert_allclose(seen.shares[:, 768:].sum(1), above, atol=1e-3)


def test_sharp_crops_reach_farthest_of_their_image(tmp_path):
    model = load_graph("fp32")
    rng = np.random.default_rng(0)
    calm = np.full((256, 320), 120, np.uint8)
    places = [(0, 0), (64, 80), (128, 160)]
    for i, (top, left) in enumerate(places):
        calm[top : top + CROP, left : left + CROP] = (
            rng.integers(0, 256, (CROP, CROP)) * (i + 1) // 3
        )
    small = rng.integers(0, 256, (40, 50)).astype(np.uint8)
    for name, image in {"0": calm, "1": calm, "2": small}.items():
        write_image(tmp_path / f"{name}.png", image)
    pictures = load_pictures(tmp_path, 4)
    inputs = calibration_inputs(model, ["shallow1", "hfms.0.eu.add"], pictures)
    crops = [lr[0, 0] * 255 for lr in inputs["sharp"]]
    assert len(crops) <= 1 + SHARP
    np.testing.assert_allclose(crops[-1], small, atol=1e-4)
    at = {(y, x) for y in range(0, 193, 64) for x in range(0, 257, 320 // GRID)}
    assert set(places) <= at
    # None of the many blank crops is among them.
    assert all(crop.std() > 10 for crop in crops)
    noisiest = calm[128 : 128 + CROP, 160 : 160 + CROP]
    assert any(np.allclose(crop, noisiest, atol=1e-4) for crop in crops)


def test_pictures_of_a_folder(tmp_path, photo):
    for i in range(5):
        write_image(tmp_path / f"{i}.png", np.roll(photo, 9 * i, 0))
    pictures = load_pictures(tmp_path, 4)
    assert (len(pictures.calibration), len(pictures.held_out)) == (3, 2)
    for pair in pictures.calibration:
        assert pair.lr.shape == (1, 1, 15, 20)
        assert pair.original.shape == (60, 80)
    for i in range(1, 5):
        (tmp_path / f"{i}.png").unlink()
    with pytest.raises(InputError, match="holds one image"):
        load_pictures(tmp_path, 4)
