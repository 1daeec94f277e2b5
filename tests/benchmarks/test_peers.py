from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.peers import (
    HFDN,
    MISSING,
    PEERS,
    drrn,
    graph,
    idn,
    imdn,
    lcsc,
    memnet,
    network,
    rlfn,
    safmn,
    tscn,
    vdsr,
)
from benchmarks.peers.counts import reproduced_by
from export.sessions import candidate

BY_NAME = {peer.name: peer for peer in PEERS}

# Fewer repetitions of the same blocks export faster.
SHORTER = [
    (vdsr, "LAYERS", 4),
    (idn, "BLOCKS", 1),
    (imdn, "BLOCKS", 1),
    (drrn, "UNITS", 2),
    (memnet, "BLOCKS", 2),
    (memnet, "RECURSIONS", 1),
    (lcsc, "UNITS", 1),
    (lcsc, "NEW", (48, 32)),
    (tscn, "MODULES", 1),
    (tscn, "REFINEMENTS", 1),
    (rlfn, "BLOCKS", 1),
    (safmn, "BLOCKS", 1),
]


def parameter_counts(module):
    convs = [m for m in module.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    weights = sum(conv.weight.numel() for conv in convs)
    biases = sum(conv.bias.numel() for conv in convs)
    everything = sum(p.numel() for p in module.parameters())
    return {
        name: count / 1000
        for name, count in {
            "all": everything,
            "convs": weights + biases,
            "weights": weights,
        }.items()
    }


def test_the_papers_table_is_complete():
    names = set(BY_NAME) | {missing.name for missing in MISSING}
    table = {"VDSR", "DRRN", "MemNet", "MoreMNAS-A", "IDN", "TSCN", "LCSC", "AWSRN-S"}
    assert table | {"IMDN", "RFDN", "RLFN", "SAFMN"} <= names
    for peer in PEERS:
        assert peer.published.parameters or peer.note


@pytest.mark.parametrize("name", BY_NAME)
def test_parameters_are_the_published_ones(name):
    peer = BY_NAME[name]
    # Notes tell how far the counts are from those that HFDN's paper prints.
    tolerance = 3e-3 if peer.published.source == HFDN else 0
    for scale, published in peer.published.parameters.items():
        counts = parameter_counts(network(peer, scale))
        assert reproduced_by(published, counts, tolerance), f"×{scale}"


@pytest.mark.parametrize("name", BY_NAME)
def test_onnx_equals_pytorch(name, monkeypatch):
    for module, constant, value in SHORTER:
        monkeypatch.setattr(module, constant, value)
    peer, scale = BY_NAME[name], 4
    if name in ("RFDN", "E-RFDN"):
        peer = replace(peer, build=partial(peer.build, blocks=1))
    model = graph(peer, scale)
    torch_network = network(peer, scale)
    for size in ((1, 20, 24), (2, 17, 31)):
        batch, height, width = size
        lr = np.random.default_rng(0).random((batch, peer.channels, height, width), np.float32)
        expected = torch_network(torch.from_numpy(lr)).numpy()
        assert expected.shape == (batch, peer.channels, scale * height, scale * width)
        got = candidate(model)(lr)
        assert np.ptp(got) > 1e-4
        assert abs(got - expected).max() < 1e-5


@pytest.mark.parametrize("name", ["AWSRN-S", "RLFN", "SAFMN"])
def test_smallest_size(name):
    peer = BY_NAME[name]
    side = peer.minimum_size
    assert network(peer, 2)(torch.rand(1, 3, side, side)).shape == (1, 3, 2 * side, 2 * side)
    if side > 1:
        with pytest.raises(RuntimeError):
            network(peer, 2)(torch.rand(1, 3, side - 1, side - 1))


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("name", ["IDN", "TSCN", "LCSC"])
def test_output_size(name, scale):
    sr = network(BY_NAME[name], scale)(torch.rand(1, 1, 5, 7))
    assert sr.shape == (1, 1, 5 * scale, 7 * scale)


def test_weights_are_the_same_each_time_and_leave_the_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, second = (network(BY_NAME["VDSR"], 2).state_dict() for _ in range(2))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_pooling_by_a_whole_factor_is_adaptive_pooling_of_multiples():
    x = torch.rand(1, 9, 16, 24)
    for level in (1, 2, 3):
        adaptive = F.adaptive_max_pool2d(x, (16 // 2**level, 24 // 2**level))
        assert torch.equal(F.max_pool2d(x, 2**level), adaptive)
