import numpy as np
import onnx
import pytest
from onnx import helper

from hfdn_deploy.bundle import pretrained, pretrained_scales
from hfdn_deploy.errors import BundleError
from hfdn_deploy.graph import (
    constant_values,
    for_openvino,
    halo_of,
    pooled_tensor,
    split_graphs,
    statistics_graph,
    tile_graph,
)
from tests.helpers.graphs import run, run_all, with_output

GRAPHS = ["fp32", "fp16", "int8", "int8-cpu", "int8-openvino", "int8-openvino-7bit"]


def load(graph, scale=4):
    return onnx.load_model_from_string(pretrained(scale).read_model(graph))


@pytest.mark.parametrize("graph", GRAPHS)
def test_the_two_graphs_make_the_one(graph):
    model = load(graph)
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
    model = load(graph)
    pooled = pooled_tensor(model)
    trunk, heads = split_graphs(model, pooled)
    lr = np.random.default_rng(0).random((2, 1, 12, 17), np.float32)
    inside = np.ones_like(lr)
    sums, *outputs = run_all(trunk, lr=lr, inside=inside)
    np.testing.assert_array_equal(sums, run(statistics_graph(model, pooled), lr=lr, inside=inside))
    features = dict(zip([value.name for value in trunk.graph.output][1:], outputs, strict=True))
    assert {x.shape[0] for x in outputs} == {2}
    assert {x.shape[2:] for x in outputs} == {(12, 17)}
    # The shallow features, those of two modules, and the fused ones; fp16 also casts its input.
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


@pytest.mark.parametrize("graph", GRAPHS)
def test_the_heads_need_little_around_a_pixel(graph):
    model = load(graph)
    trunk, heads = split_graphs(model, pooled_tensor(model))
    assert (halo_of(model, 4), halo_of(heads, 4)) == (19, 2)
    assert len(trunk.graph.node) > len(heads.graph.node)


def test_only_what_is_inside_counts():
    model = load("fp32")
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
    model = load(graph)
    weights = constant_values(model)
    pooled = pooled_tensor(model)
    parts = [statistics_graph(model, pooled), tile_graph(model, pooled)]
    parts += split_graphs(model, pooled)
    for part, has_trunk, has_heads in zip(parts, (1, 1, 1, 0), (0, 1, 0, 1), strict=True):
        onnx.checker.check_model(part, full_check=True)
        constants = constant_values(part)
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


@pytest.mark.parametrize("scale", pretrained_scales())
def test_weights_of_seven_bits_lie_within_half_a_step(scale):
    eight, seven = load("int8-openvino", scale), load("int8-openvino-7bit", scale)
    assert seven.graph.node == eight.graph.node
    before, after = constant_values(eight), constant_values(seven)
    made = {node.output[0]: node.input for node in seven.graph.node}
    convolutions = [n for n in seven.graph.node if n.op_type == "Conv" and n.input[1] in made]
    assert {n.name for n in convolutions} >= set(pretrained(scale).manifest.quantization.layers)
    changed = set()
    for node in convolutions:
        (weight, step, zero), (bias, bias_step, _) = made[node.input[1]], made[node.input[2]]
        assert np.abs(before[weight]).max() == 127
        assert after[weight].dtype == np.int8
        assert not after[zero].any()
        np.testing.assert_array_equal(after[step], 2 * before[step])
        # In the old steps, of which a new one is two.
        error = 2 * after[weight].astype(int) - before[weight]
        assert np.abs(error).max() == 1
        # Halves go both ways: no more moves up than down, to what chance allows.
        assert abs(error.mean()) < 4 * error.std() / np.sqrt(error.size)
        assert np.abs(2 * after[bias].astype(int) - before[bias]).max() <= 1
        np.testing.assert_array_equal(after[bias_step], 2 * before[bias_step])
        changed |= {weight, step, bias, bias_step}
    assert max(np.abs(x).max() for x in after.values() if x.dtype == np.int8) == 64
    assert changed == {name for name in before if not np.array_equal(before[name], after[name])}


def test_what_is_no_mean_over_the_image_is_refused():
    model = load("fp32")
    for name in ("fusion", "nothing", "sr"):
        with pytest.raises(BundleError, match="takes no mean"):
            tile_graph(model, name)
    model.graph.node.append(helper.make_node("GlobalAveragePool", ["fusion"], ["again"]))
    with pytest.raises(BundleError, match=r"reducemean and again; at most one"):
        pooled_tensor(model)


def test_a_pair_that_nobody_reads_is_no_error():
    model = load("int8-cpu")
    pair = [helper.make_node("QuantizeLinear", ["lr", "s"], ["unread.q"])]
    pair += [helper.make_node("DequantizeLinear", ["unread.q", "s"], ["unread"])]
    model.graph.node.extend(pair)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(1), "s"))
    assert "unread" not in {name for n in for_openvino(model).graph.node for name in n.output}


def test_a_mean_whose_shape_cannot_be_told_is_refused():
    model = load("fp32")
    pool = next(node for node in model.graph.node if node.op_type == "ReduceMean")
    model.graph.node.insert(0, helper.make_node("Expand", ["lr", "shape"], ["expanded"]))
    pool.input[0] = "expanded"
    with pytest.raises(BundleError, match="is not known"):
        tile_graph(model, pool.output[0])
    pool.domain = "com.evil"
    with pytest.raises(BundleError, match="cannot be told"):
        tile_graph(model, pool.output[0])


def test_a_halo_that_cannot_be_told_is_refused():
    model = load("fp32")
    convolution = next(node for node in model.graph.node if node.op_type == "Conv")
    kernel = next(a for a in convolution.attribute if a.name == "kernel_shape")
    convolution.attribute.remove(kernel)
    with pytest.raises(BundleError, match="kernel_shape"):
        halo_of(model, 4)
