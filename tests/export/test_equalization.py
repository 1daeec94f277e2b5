"""Graphs with scaled channels, which compute the same function."""

import numpy as np
import pytest

from export.equalization import channel_factors, channel_groups, equalized, is_learned
from export.sessions import candidate
from tests.helpers.graphs import load_graph


def random_scales(model, seed):
    """Return factors between about 1/4 and 4, equal within a group."""
    rng = np.random.default_rng(seed)
    groups = channel_groups(model)
    factors = np.exp(rng.normal(0, 0.7, 1 + max(int(x.max()) for x in groups.values())))
    factors[0] = 1
    learned = filter(is_learned, model.graph.node)
    return {node.name: tuple(factors[groups[node.output[0]]]) for node in learned}


@pytest.mark.parametrize("scale", [2, 4])
def test_scaled_channels_compute_the_same(scale):
    model = load_graph("fp32", scale)
    lr = np.random.default_rng(1).random((1, 1, 17, 23), np.float32)
    expected = candidate(model)(lr)
    for seed in range(2):
        scaled = equalized(model, random_scales(model, seed))
        np.testing.assert_allclose(candidate(scaled)(lr), expected, atol=1e-5)
        # The weights differ, though.
        weights = (m.graph.initializer[0].raw_data for m in (model, scaled))
        assert len(set(weights)) == 2


def test_channels_that_meet_are_of_one_group():
    groups = channel_groups(load_graph("fp32"))
    for tensor in ("lr", "sr", "last", "base", "attention.sa.conv", "attention.ca.excite"):
        assert set(groups[tensor]) == {0}
    trunk = groups["hfms.0.eu.add"]
    assert len(set(trunk)) == 48
    np.testing.assert_array_equal(groups["hfms.0.adu.fusion"], trunk)
    np.testing.assert_array_equal(groups["hfms.0.eu.fusion"], trunk)
    np.testing.assert_array_equal(groups["hfms.1.adu.concat"][:48], trunk)
    inner = groups["hfms.0.eu.conv1"]
    np.testing.assert_array_equal(groups["hfms.0.eu.conv1.leakyrelu"], inner)
    assert not set(inner) & set(trunk)


@pytest.mark.parametrize(
    "change",
    [
        lambda scales: scales.pop("fusion"),
        lambda scales: scales.update(other=(1.0,)),
        lambda scales: scales.update(fusion=scales["fusion"][:-1]),
        lambda scales: scales.update(last=(2.0,)),
        lambda scales: scales.update({"hfms.0.eu.fusion": (9.0, *scales["hfms.0.eu.fusion"][1:])}),
        lambda scales: scales.update({"heads.s.conv1": (-1.0, *scales["heads.s.conv1"][1:])}),
        lambda scales: scales.update({"heads.s.conv1": (np.nan, *scales["heads.s.conv1"][1:])}),
    ],
)
def test_scales_that_do_not_fit_are_refused(change):
    model = load_graph("fp32")
    scales = random_scales(model, 0)
    channel_factors(model, scales)
    change(scales)
    with pytest.raises(ValueError, match=r"cannot be scaled|other convolutions|channels, not"):
        equalized(model, scales)
