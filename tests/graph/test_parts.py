import numpy as np
import onnx
import pytest
from onnx import helper

from hfdn_deploy.errors import BundleError
from hfdn_deploy.graph import (
    GraphView,
    pooled_tensor,
    split_graphs,
    statistics_graph,
    tile_graph,
)
from tests.helpers.graphs import GRAPHS, load_graph, run, run_all, with_output


@pytest.mark.parametrize("graph", GRAPHS)
def test_the_two_graphs_make_the_one(graph):
    model = load_graph(graph)
    pooled = pooled_tensor(model)
    lr = np.random.default_rng(0).random((2, 1, 12, 17), np.float32)
    inside = np.ones_like(lr)
    mean = run(statistics_graph(model, pooled), lr=lr, inside=inside) / np.float32(12 * 17)
    assert mean.shape == (2, 48, 1, 1)
    expected = run(with_output(model, pooled), lr=lr)
    assert np.abs(mean - expected).max() <= (1e-3 if graph == "fp16" else 1e-6)
    tile, whole = tile_graph(model, pooled), run(model, lr=lr)
    assert np.abs(run(tile, lr=lr, pooled=mean) - whole).max() <= (
        1e-5 if graph == "fp32" else 4e-3
    )
    assert np.abs(run(tile, lr=lr, pooled=mean + 1) - whole).max() > 5e-3


@pytest.mark.parametrize("graph", GRAPHS)
def test_the_features_are_all_that_the_heads_need(graph):
    model = load_graph(graph)
    pooled = pooled_tensor(model)
    trunk, heads = split_graphs(model, pooled)
    lr = np.random.default_rng(0).random((2, 1, 12, 17), np.float32)
    inside = np.ones_like(lr)
    sums, *outputs = run_all(trunk, lr=lr, inside=inside)
    np.testing.assert_array_equal(sums, run(statistics_graph(model, pooled), lr=lr, inside=inside))
    features = dict(zip([value.name for value in trunk.graph.output][1:], outputs, strict=True))
    assert {x.shape[0] for x in outputs} == {2}
    assert {x.shape[2:] for x in outputs} == {(12, 17)}
    # Shallow features, those of two modules, and the fused features; fp16 also casts its input.
    assert sum(x.shape[1] for x in outputs) == 4 * 48 + (graph == "fp16")
    kinds = {"fp32": ["float32"] * 4, "fp16": ["float16"] * 5}
    quantized = ["float32"] * 2 + ["int8" if graph == "int8" else "uint8"] * 2
    assert sorted(str(x.dtype) for x in outputs) == kinds.get(graph, quantized)
    mean, whole = sums / np.float32(12 * 17), run(model, lr=lr)
    got = run(heads, lr=lr, pooled=mean, **features)
    # ONNX Runtime computes half precision in fp32, and rounds where the graph is cut.
    assert np.abs(got - whole).max() <= (1e-5 if graph == "fp32" else 4e-3)
    spoilt = {name: np.zeros_like(x) for name, x in features.items()}
    assert np.abs(run(heads, lr=lr, pooled=mean, **spoilt) - whole).max() > 5e-3
    for name in features:
        one = {**features, name: spoilt[name]}
        assert not np.array_equal(run(heads, lr=lr, pooled=mean, **one), got)


def test_only_what_is_inside_counts():
    model = load_graph("fp32")
    statistics = statistics_graph(model, pooled_tensor(model))
    lr = np.random.default_rng(0).random((1, 1, 9, 11), np.float32)
    left, right = np.zeros_like(lr), np.ones_like(lr)
    left[..., 2:7, :4] = 1
    right[..., 2:7, :4] = 0
    parts = [run(statistics, lr=lr, inside=x) for x in (left, right, np.ones_like(lr))]
    assert np.abs(parts[0]).max() > 0.1
    np.testing.assert_allclose(parts[0] + parts[1], parts[2], atol=1e-4)


@pytest.mark.parametrize("graph", GRAPHS)
def test_the_graphs_are_valid_and_hold_no_more_than_they_need(graph):
    model = load_graph(graph)
    weights = GraphView(model).constants
    pooled = pooled_tensor(model)
    parts = [statistics_graph(model, pooled), tile_graph(model, pooled)]
    parts += split_graphs(model, pooled)
    for part, has_trunk, has_heads in zip(parts, (1, 1, 1, 0), (0, 1, 0, 1), strict=True):
        onnx.checker.check_model(part, full_check=True)
        constants = GraphView(part).constants
        used = {name for node in part.graph.node for name in node.input}
        assert set(constants) <= used
        own = set(constants) - {"spatial_axes"}
        assert all(np.array_equal(constants[name], weights[name]) for name in own)
        for prefix, expected in (("hfms.", has_trunk), ("heads.", has_heads)):
            # The scale of a quantised feature is needed on both sides of the cut.
            weights_of = [x for x in constants if x.startswith(prefix) and constants[x].size > 999]
            assert bool(weights_of) == bool(expected)
        image, other = part.graph.input[:2]
        kinds = {value.type.tensor_type.elem_type for value in (image, other)}
        assert kinds == {onnx.TensorProto.FLOAT}


def test_what_is_no_mean_over_the_image_is_refused():
    model = load_graph("fp32")
    for name in ("fusion", "nothing", "sr"):
        with pytest.raises(BundleError, match="takes no mean"):
            tile_graph(model, name)
    model.graph.node.append(helper.make_node("GlobalAveragePool", ["fusion"], ["again"]))
    with pytest.raises(BundleError, match=r"globalaveragepool and again; at most one"):
        pooled_tensor(model)


def test_a_mean_whose_shape_cannot_be_told_is_refused():
    model = load_graph("fp32")
    pool = next(node for node in model.graph.node if node.op_type == "GlobalAveragePool")
    model.graph.node.insert(0, helper.make_node("Expand", ["lr", "shape"], ["expanded"]))
    pool.input[0] = "expanded"
    with pytest.raises(BundleError, match="is not known"):
        tile_graph(model, pool.output[0])
    pool.domain = "com.evil"
    with pytest.raises(BundleError, match="cannot be inferred"):
        tile_graph(model, pool.output[0])
