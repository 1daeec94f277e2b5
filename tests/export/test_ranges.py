"""Ranges chosen by the error of the output."""

from dataclasses import replace

import numpy as np
import pytest

from export import kinds
from export.calibration import observe
from export.departure import Sample, departure
from export.equalization import channel_groups, is_learned
from export.layers import layer_macs, observed_tensors
from export.parity import cached
from export.quantization import DIALECTS, quantize
from export.ranges import fit
from export.sessions import candidate
from export.torch_graph import TorchGraph
from hfdn_deploy.bundle import Quantization, Ranges
from tests.helpers.graphs import load_graph


@pytest.fixture(scope="module")
def fitted():
    """Return the ×4 graph and, from eight small images, its ranges and min-max ranges."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kinds, "SIDE", 32)
        patch.setattr("export.ranges.STEPS", 120)
        patch.setattr("export.ranges.RATE", 0.1)
        model = load_graph("fp32")
        layers = [name for name in layer_macs(model) if name not in ("shallow1", "last")]
        tensors = observed_tensors(model, layers)
        images = kinds.judged_images()
        inputs = {"sharp": images["photographs"][::8], "drawn": images["text and screens"][:3]}
        seen = observe(model, tensors, inputs)
        gains = TorchGraph(model).gains(tensors, inputs["sharp"])
        ranges = {key: fit(model, layers, seen, gains, x) for key, x in DIALECTS.items()}
        again = fit(model, layers, seen, gains, DIALECTS["int8"])
    groups = channel_groups(model)
    learned = filter(is_learned, model.graph.node)
    ones = {node.name: (1.0,) * len(groups[node.output[0]]) for node in learned}
    met = {name: x.centres[x.shares > 0] for name, x in seen.items()}
    plain = Ranges(ones, {name: (min(x.min(), 0.0), x.max()) for name, x in met.items()})
    means = {name: tuple(x.means) for name, x in seen.items()}
    made = Quantization("", 0.05, tuple(layers), 1.0, means, ranges)
    return model, made, replace(made, ranges=dict.fromkeys(DIALECTS, plain)), again


@pytest.mark.slow
@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_output_errs_less_than_with_all_that_was_seen(fitted, dialect):
    model, made, plain, _ = fitted
    reference = cached(candidate(model))
    # These are other crops than those of the calibration.
    sharp = [Sample(lr) for lr in kinds.judged_images()["photographs"][1::8]]
    errors = [
        departure("photographs", sharp, candidate(quantize(model, x, dialect)), reference, 4)
        for x in (made, plain)
    ]
    assert 0 < errors[0].rms_levels < 0.75 * errors[1].rms_levels


@pytest.mark.slow
def test_ranges_are_what_the_dialects_can_hold(fitted):
    _, made, _, again = fitted
    assert made.ranges["int8"] == again
    for low, high in made.ranges["int8"].limits.values():
        assert low == -high
    for low, high in made.ranges["int8-cpu"].limits.values():
        assert low <= 0 < high
        step = (high - low) / 255
        # Zero is a level, up to the rounding of limits to six digits.
        assert low / step == pytest.approx(round(low / step), abs=0.01)
    # Only int8-cpu rounds the inputs of LeakyReLUs.
    only = made.ranges["int8-cpu"].limits.keys() - made.ranges["int8"].limits.keys()
    assert "heads.s.conv1" in only
    assert "heads.s.conv1.leakyrelu" not in only


@pytest.mark.slow
def test_factors_of_a_group_are_alike(fitted):
    model, made, *_ = fitted
    groups = channel_groups(model)
    for ranges in made.ranges.values():
        factors = {0: 1.0}
        for node in filter(is_learned, model.graph.node):
            scales = ranges.channel_scales[node.name]
            for group, scale in zip(groups[node.output[0]].tolist(), scales, strict=True):
                assert factors.setdefault(group, scale) == scale > 0
        assert np.std(np.log(list(factors.values()))) > 0.1
