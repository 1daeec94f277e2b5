"""The search for images on which INT8 departs furthest from fp32."""

import numpy as np
import pytest

from benchmarks import adversary
from export import kinds
from hfdn_deploy.bundle import pretrained


@pytest.mark.slow
def test_the_search_finds_more_than_its_starts_and_stays_within_the_gate(monkeypatch):
    monkeypatch.setattr(kinds, "SIDE", 32)
    images = [kinds.KINDS[kind](np.random.default_rng(5))[1] for kind in adversary.STARTS[1:3]]
    starts = [kinds.to_input(image) for image in images]
    found = list(adversary.search(pretrained(4), starts, 5))
    assert [x.graph for x in found] == ["int8", "int8-cpu", "int8-openvino"]
    for each in found:
        assert each.most[0] < each.most[1] <= adversary.LIMIT
        assert each.rms[0] < each.rms[1]


def test_changes_stay_small_and_inside_the_range():
    lr = kinds.to_input(np.random.default_rng(0).integers(0, 128, (8, 8)).astype(np.uint8))
    changed = adversary._ascend(lambda image: (image + 1).repeat(1, 1, 2, 2), lr, 6)
    assert 0 <= changed.min() <= changed.max() <= 1
    assert np.abs(changed - lr).max() <= adversary.RADIUS + 1e-6
    np.testing.assert_allclose(changed, np.minimum(lr + adversary.RADIUS, 1), atol=1e-6)
