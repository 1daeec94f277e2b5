import pytest
import torch

from hfdn_deploy.errors import CheckpointError
from hfdn_deploy.images import imresize
from hfdn_deploy.network import BicubicUpscale, HFDNConfig, count_complexity
from tests.helpers.networks import make_network

PARAMETERS = {2: 760_127, 3: 822_335, 4: 760_127}
PAPER_GIGA_MACS = {2: 260.7, 3: 248.21, 4: 178.51}
TRUE_GIGA_MACS = {2: 232.0, 3: 152.2, 4: 115.6}


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_complexity_is_the_published_one(scale):
    complexity = count_complexity(make_network(scale), scale)
    assert complexity.parameters == PARAMETERS[scale]
    assert complexity.macs_paper / 1e9 == pytest.approx(PAPER_GIGA_MACS[scale], rel=5e-4)
    assert complexity.macs_true / 1e9 == pytest.approx(TRUE_GIGA_MACS[scale], abs=0.05)


def test_counting_leaves_the_network_usable():
    network = make_network()
    before = network(torch.ones(1, 1, 3, 3))
    count_complexity(network, 4)
    assert torch.equal(network(torch.ones(1, 1, 3, 3)), before)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (13, 5)])
def test_output_size(scale, size):
    lr = torch.rand(2, 1, *size)
    images = make_network(scale).forward_levels(lr)
    assert len(images) == 3
    assert all(i.shape == (2, 1, scale * size[0], scale * size[1]) for i in images)


def test_forward_is_the_last_level_and_levels_are_running_sums():
    network = make_network()
    lr = torch.rand(1, 1, 9, 8)
    images = network.forward_levels(lr)
    assert torch.equal(network(lr), images[-1])
    features = network.level_features(lr)
    image = network.base(lr)
    for head, level, expected in zip(network.ordered_heads, features, images, strict=True):
        image = image + head(level)
        torch.testing.assert_close(image, expected)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_base_is_matlab_bicubic_inside(scale):
    image = torch.rand(1, 1, 11, 14)
    expected = imresize(image[0, 0].numpy(), scale)
    inner = slice(2 * scale, -2 * scale)
    got = BicubicUpscale(scale)(image)[0, 0].numpy()
    assert abs(got - expected)[inner, inner].max() < 1e-6
    # A flat image stays flat up to the edge.
    flat = BicubicUpscale(scale)(torch.full((1, 1, 3, 2), 0.3))
    torch.testing.assert_close(flat, torch.full_like(flat, 0.3))


# Parameters of the full network less those that an ablation leaves out.
@pytest.mark.parametrize(
    ("options", "parameters"),
    [
        ({"attention": "none"}, 760_127 - 2_033),
        ({"attention": "ca"}, 760_127 - 433),
        ({"attention": "sa"}, 760_127 - 1_600),
        ({"dense": "concat"}, 760_127 - 3 * 9),
        ({"dense": "plain"}, 760_127 - 3 * (9 + 3 * 48 * 48 * 9 + 3 * 48 * 48)),
        ({"supervision": "s+d"}, 760_127 - 36_912 - 27_857),
        ({"supervision": "d"}, 760_127 - 2 * (36_912 + 27_857)),
    ],
)
def test_ablations(options, parameters):
    network = make_network(4, **options)
    assert count_complexity(network, 4).parameters == parameters
    assert len(network.forward_levels(torch.rand(1, 1, 4, 4))) == len(network.config.levels)


def test_adaptive_weights_matter():
    network = make_network()
    lr = torch.rand(1, 1, 8, 8)
    before = network(lr)
    network.hfms[1].adu.weights[2][3] += 1
    assert (network(lr) - before).abs().max() > 1e-4


@pytest.mark.parametrize(
    "values", [{"scale": 5}, {"scale": True}, {"attention": "all"}, {"dense": ""}]
)
def test_unknown_configuration_is_refused(values):
    with pytest.raises(CheckpointError, match=f"no {next(iter(values))}"):
        HFDNConfig(**values)


def test_configuration_round_trip():
    config = HFDNConfig(3, attention="sa", dense="plain", supervision="d")
    assert HFDNConfig.from_dict(config.to_dict()) == config
    with pytest.raises(CheckpointError, match="width"):
        HFDNConfig.from_dict({**config.to_dict(), "width": 64})
