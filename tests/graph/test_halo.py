import pytest

from hfdn_deploy.errors import BundleError
from hfdn_deploy.graph import halo_of, pooled_tensor, split_graphs
from tests.helpers.graphs import GRAPHS, load_graph


@pytest.mark.parametrize("graph", GRAPHS)
def test_the_heads_need_little_around_a_pixel(graph):
    model = load_graph(graph)
    trunk, heads = split_graphs(model, pooled_tensor(model))
    assert (halo_of(model, 4), halo_of(heads, 4)) == (19, 2)
    assert len(trunk.graph.node) > len(heads.graph.node)


def test_a_halo_that_cannot_be_told_is_refused():
    model = load_graph("fp32")
    convolution = next(node for node in model.graph.node if node.op_type == "Conv")
    kernel = next(a for a in convolution.attribute if a.name == "kernel_shape")
    convolution.attribute.remove(kernel)
    with pytest.raises(BundleError, match="kernel_shape"):
        halo_of(model, 4)
