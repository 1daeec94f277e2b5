"""The comparison of INT8 with fp32 by kind of image, on simple functions."""

import numpy as np
import pytest

from benchmarks.kinds import NAMES, Nearness, sheet, with_sources
from export.departure import Sample
from export.kinds import KINDS, SIDE
from hfdn_deploy.bench import degrade, psnr


def test_sources_are_what_the_images_were_made_from():
    kinds = with_sources(2)
    assert len(kinds) == 4
    for kind, samples in kinds.items():
        assert len(samples) >= 15
        for sample in samples:
            assert sample.lr.shape == (1, 1, SIDE, SIDE)
            assert sample.original.shape == (2 * SIDE, 2 * SIDE)
        if "dithered" in kind:
            assert {*np.unique(samples[0].lr)} == {0.0, 1.0}
        else:
            small = degrade(samples[0].original, 2)
            assert psnr(samples[0].lr[0, 0] * 255, np.clip(small, 0, 255)) > 55


def test_the_nearer_of_two_results_is_counted():
    original = np.full((8, 8), 100, np.uint8)
    pairs = [Sample(np.full((1, 1, 4, 4), x, np.float32), original) for x in (0.1, 0.2, 0.3)]

    def run(off):
        """Return a run that departs from the original by `off` levels, indexed by brightness."""
        return lambda lr: np.full((1, 1, 8, 8), (100 + off[round(10 * lr.max())]) / 255, np.float32)

    found = Nearness.of(pairs, run({1: 1, 2: 3, 3: 2}), run({1: 2, 2: 2, 3: 2}), 2)
    assert (found.images, found.fp32_nearer, found.int8_nearer) == (3, 1, 1)
    assert found.fp32 == pytest.approx(20 * np.log10(255 / 2))
    assert str(found).startswith("3 | ")


def test_the_sheet_has_a_row_for_each_kind():
    drawn = sheet()
    rows = np.split(drawn, len(KINDS))
    assert all(row[:, :NAMES].min() < 50 for row in rows)
    assert all(row[:, NAMES - 4 : NAMES].min() == 255 for row in rows)
    for row, make in zip(rows, KINDS.values(), strict=True):
        np.testing.assert_array_equal(
            row[:SIDE, NAMES : NAMES + SIDE], make(np.random.default_rng(0))[0]
        )
