import numpy as np
import onnx
import pytest
from onnx import helper

from hfdn_deploy.bundle import pretrained, pretrained_scales
from hfdn_deploy.graph import GraphView, for_openvino
from tests.helpers.graphs import load_graph, run


@pytest.mark.parametrize("scale", pretrained_scales())
def test_weights_of_seven_bits_lie_within_half_a_step(scale):
    eight, seven = load_graph("int8-openvino", scale), load_graph("int8-openvino-7bit", scale)
    assert seven.graph.node == eight.graph.node
    before, after = GraphView(eight).constants, GraphView(seven).constants
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
        # In old steps; a new step is two.
        error = 2 * after[weight].astype(int) - before[weight]
        assert np.abs(error).max() == 1
        # Halves go both ways: as many up as down, within chance.
        assert abs(error.mean()) < 4 * error.std() / np.sqrt(error.size)
        assert np.abs(2 * after[bias].astype(int) - before[bias]).max() <= 1
        np.testing.assert_array_equal(after[bias_step], 2 * before[bias_step])
        changed |= {weight, step, bias, bias_step}
    assert max(np.abs(x).max() for x in after.values() if x.dtype == np.int8) == 64
    assert changed == {name for name in before if not np.array_equal(before[name], after[name])}


@pytest.mark.parametrize("scale", pretrained_scales())
@pytest.mark.parametrize("size", [(1, 1), (5, 8)])
def test_the_base_may_be_added_to_pixels(scale, size):
    phases, pixels = (load_graph(f"int8-openvino{kind}", scale) for kind in ("", "-bf16"))
    assert [node.op_type for node in pixels.graph.node].count("ConvTranspose") == 1
    lr = np.random.default_rng(0).random((2, 1, *size), np.float32)
    np.testing.assert_allclose(run(pixels, lr=lr), run(phases, lr=lr), rtol=0, atol=1e-6)


def test_a_pair_that_nobody_reads_is_no_error():
    model = load_graph("int8-cpu")
    pair = [helper.make_node("QuantizeLinear", ["lr", "s"], ["unread.q"])]
    pair += [helper.make_node("DequantizeLinear", ["unread.q", "s"], ["unread"])]
    model.graph.node.extend(pair)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(1), "s"))
    assert "unread" not in {name for n in for_openvino(model).graph.node for name in n.output}
