"""Graphs in PyTorch, and how much noise in a tensor affects the output."""

from functools import partial

import numpy as np
import pytest
import torch

from export.sessions import candidate
from export.torch_graph import TorchGraph
from hfdn_deploy.graph import GraphView
from tests.helpers.graphs import load_graph


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_pytorch_computes_what_onnx_runtime_does(scale):
    model = load_graph("fp32", scale)
    lr = np.random.default_rng(0).random((1, 1, 13, 19), np.float32)
    with torch.no_grad():
        got = TorchGraph(model)(torch.from_numpy(lr)).numpy()
    np.testing.assert_allclose(got, candidate(model)(lr), atol=1e-5)


def add(tensor, noise, name, values):
    """Add noise to the values that are read of one tensor."""
    return values + noise if name == tensor else values


@pytest.mark.parametrize("tensor", ["hfms.1.adu.concat", "heads.s.conv1.leakyrelu"])
def test_a_gain_is_what_noise_does_to_the_output(tensor):
    graph = TorchGraph(load_graph("fp32"))
    rng = np.random.default_rng(0)
    images = [rng.random((1, 1, 24, 24), np.float32) for _ in range(4)]
    gains = graph.gains([tensor, "sr"], images)
    assert not gains["sr"].any()  # nothing reads it
    found = []
    random = torch.Generator().manual_seed(1)
    for lr in map(torch.from_numpy, images):
        with torch.no_grad():
            values = graph.run(lr)
            for _ in range(4):
                noise = 1e-4 * torch.randn(values[tensor].shape, generator=random)
                change = graph.run(lr, partial(add, tensor, noise))["sr"] - values["sr"]
                found.append(float((change / 1e-4).square().mean()))
    assert gains[tensor].sum() == pytest.approx(np.mean(found), rel=0.15)


def test_an_unknown_operator_is_named():
    view = GraphView(load_graph("fp32"))
    nodes = list(view.nodes)
    nodes[1].op_type = "Softplus"
    graph = TorchGraph(view.changed(nodes=nodes))
    with pytest.raises(NotImplementedError, match="is a Softplus"):
        graph(torch.zeros(1, 1, 4, 4))
