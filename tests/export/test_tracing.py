import numpy as np
import onnx
import pytest
import torch

from export.judge import reference
from export.rewrites import DeployHFDN, fold_adaptive_weights
from export.sessions import candidate
from export.tracing import to_onnx
from hfdn_deploy.graph import halo_of, pooled_tensor
from tests.helpers.networks import make_network

OPTIONS = [
    {},
    {"attention": "none", "supervision": "d"},
    {"attention": "ca", "dense": "concat", "supervision": "s+d"},
    {"attention": "sa", "dense": "plain"},
]


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_folding_is_exact(scale):
    network = make_network(scale)
    folded = fold_adaptive_weights(network)
    assert folded.config.dense == "concat"
    assert sum(p.numel() for p in folded.parameters()) == network_parameters(network) - 27
    lr = torch.rand(2, 1, 17, 23)
    # Double precision hides rounding errors and leaves those of the rewrite itself.
    difference = folded.double()(lr.double()) - network.double()(lr.double())
    assert difference.abs().max() < 1e-6


def network_parameters(network):
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_one_last_convolution_is_exact(scale, options):
    network = make_network(scale, **options)
    lr = torch.rand(2, 1, 17, 23)
    deployed = DeployHFDN(network).double()(lr.double())
    assert (deployed - network.double()(lr.double())).abs().max() < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS)
def test_graph_equals_network(options):
    network = make_network(3, **options)
    model = to_onnx(network)
    lr = np.random.default_rng(0).random((2, 1, 7, 11), np.float32)
    difference = candidate(model)(lr) - reference(network)(lr)
    assert np.abs(difference).max() < 1e-5
    assert (pooled_tensor(model) is not None) == ("ca" in network.config.attention)


@pytest.fixture(scope="module")
def model():
    return to_onnx(make_network())


def test_graph_is_rewritten_and_named_after_the_modules(model):
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    assert {"shallow1", "hfms.2.adu.convs.1", "heads.m.deconv", "last"} <= set(names)
    assert not any("heads" in name and "last" in name for name in names)
    convolutions = [n for n in model.graph.node if n.op_type.startswith("Conv")]
    # All of the network's without the three last ones, plus their union and the base.
    assert len(convolutions) == 2 + 3 * 7 + 1 + 3 + 3 * 3 + 2
    # Adaptive weights would be multiplications; the two left are the attentions.
    assert [n.op_type for n in model.graph.node].count("Mul") == 2


def test_graph_is_self_contained_and_says_nothing_of_its_maker(model):
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    text = str(onnx.ModelProto.FromString(model.SerializeToString()))
    for word in ("stack_trace", "site-packages", "/home", ".py"):
        assert word not in text
    assert not model.functions


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "expected"), [(2, 20), (3, 20), (4, 19)])
def test_halo_is_what_the_network_can_reach(scale, expected):
    network = make_network(scale, attention="sa")
    assert halo_of(to_onnx(network), scale) == expected
    # Gradients show exactly which input pixels each output phase depends on.
    side, width = 2 * expected + 9, 7
    lr = torch.rand(1, 1, side, width, dtype=torch.double, requires_grad=True)
    sr = network.double()(lr)
    centre = side // 2
    reached = 0
    for phase in range(scale):
        row, column = centre * scale + phase, width // 2 * scale + phase
        (gradient,) = torch.autograd.grad(sr[0, 0, row, column], lr, retain_graph=True)
        rows = gradient[0, 0].abs().sum(1).nonzero().squeeze(1)
        reached = max(reached, centre - int(rows.min()), int(rows.max()) - centre)
    assert reached == expected
