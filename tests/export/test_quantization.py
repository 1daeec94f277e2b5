from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

from export import sensitivity
from export.calibration import (
    Pair,
    Pictures,
    load_pictures,
)
from export.equalization import channel_factors, equalized, is_learned
from export.layers import layer_macs, observed_tensors
from export.parity import expected_loss
from export.quantization import (
    DIALECTS,
    dequantize_weights,
    quantize,
    quantize_weights,
    round_weights,
)
from export.sensitivity import Study
from export.sessions import candidate
from export.subpixel import to_subpixels
from hfdn_deploy.bench import psnr
from hfdn_deploy.bundle import Quantization, Ranges, pretrained, pretrained_scales
from hfdn_deploy.errors import InputError
from hfdn_deploy.graph import GraphView, halo_of, tiny_model
from tests.helpers.graphs import load_graph


@pytest.fixture(scope="module")
def x4():
    """Return the shipped ×4 bundle, its fp32 graph and the images for calibration."""
    bundle = pretrained(4)
    model = onnx.load_model_from_string(bundle.read_model("fp32"))
    return bundle, model, load_pictures(None, 4)


@pytest.mark.parametrize("scale", pretrained_scales())
def test_subpixels_are_exact(scale):
    model = load_graph("fp32", scale)
    rewritten = to_subpixels(model)
    assert "ConvTranspose" not in {node.op_type for node in rewritten.graph.node}
    assert halo_of(rewritten, scale) == halo_of(model, scale)
    before, after = candidate(model), candidate(rewritten)
    rng = np.random.default_rng(scale)
    for shape in ((1, 1, 1, 1), (2, 1, 1, 9), (1, 1, 17, 23)):
        lr = rng.random(shape, np.float32)
        np.testing.assert_allclose(after(lr), before(lr), atol=2e-6)


@pytest.mark.parametrize("scale", pretrained_scales())
def test_macs_of_the_layers_add_up_to_the_network(scale):
    bundle = pretrained(scale)
    macs = layer_macs(onnx.load_model_from_string(bundle.read_model("fp32")))
    pooled = 2 * 48 * 16  # the channel attention's, once per image
    total = sum(macs.values()) * 1280 * 720 / scale**2 + pooled
    assert total == pytest.approx(bundle.manifest.macs_true, rel=1e-12)
    chosen = bundle.manifest.quantization
    share = sum(macs[name] for name in chosen.layers) / sum(macs.values())
    assert share == pytest.approx(chosen.macs_share)
    assert share >= sensitivity.LEAST


def test_weights_are_rounded_to_the_nearest_of_127_steps():
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(5, 7, 3, 3)).astype(np.float32)
    weights[:, 2] = 0
    for axis in (0, 1):
        integers, scales = quantize_weights(weights, axis)
        assert scales.shape == (weights.shape[axis],)
        shape = [1, 1, 1, 1]
        shape[axis] = -1
        error = np.abs(dequantize_weights(integers, scales, axis) - weights)
        assert (error <= scales.reshape(shape) / 2 * 1.0001).all()
        peaks = np.abs(np.moveaxis(integers, axis, 0).reshape(len(scales), -1)).max(1)
        assert set(peaks) <= {127, 0}
    assert (np.moveaxis(integers, 1, 0)[2] == 0).all()


@pytest.mark.parametrize("scale", pretrained_scales())
def test_the_dialect_for_tensorrt(scale):
    bundle = pretrained(scale)
    model = onnx.load_model_from_string(bundle.read_model("int8"))
    view = GraphView(model)
    values, producers = view.constants, view.makers
    layers = [n for n in model.graph.node if n.name in bundle.manifest.quantization.layers]
    assert len(layers) == len(bundle.manifest.quantization.layers) >= 25
    assert {"Conv", "ConvTranspose"} == {node.op_type for node in layers}
    for node in layers:
        data, weights = (producers[name] for name in node.input[:2])
        assert data.op_type == weights.op_type == "DequantizeLinear"
        assert producers[data.input[0]].op_type == "QuantizeLinear"
        zero = values[data.input[2]]
        assert (zero.dtype, zero.item()) == (np.int8, 0)
        axis = next(a.i for a in weights.attribute if a.name == "axis")
        assert axis == (1 if node.op_type == "ConvTranspose" else 0)
        integers, scales, zeros = (values[name] for name in weights.input)
        assert integers.dtype == np.int8
        assert scales.shape == zeros.shape == (integers.shape[axis],)
        assert values[node.input[2]].dtype == np.float32


@pytest.mark.parametrize("scale", pretrained_scales())
def test_the_dialect_for_cpus_runs_in_integers(scale, tmp_path):
    bundle = pretrained(scale)
    data = bundle.read_model("int8-cpu")
    values = GraphView(onnx.load_model_from_string(data)).constants
    kinds = {v.dtype for name, v in values.items() if name.endswith(".zero")}
    assert kinds == {np.dtype(t) for t in (np.uint8, np.int8, np.int32)}
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(tmp_path / "optimized.onnx").graph.node
    # The 1×1 convolutions whose results are added in floating point are not among them.
    integer = {n.name.partition("_token_")[0] for n in nodes if n.op_type == "QLinearConv"}
    macs = layer_macs(onnx.load_model_from_string(bundle.read_model("fp32")))
    quantized = sum(macs[name] for name in bundle.manifest.quantization.layers)
    assert sum(macs[name] for name in integer) >= 0.95 * quantized
    assert quantized >= sensitivity.LEAST * sum(macs.values())


def test_quantization_of_no_layer_changes_nothing(x4):
    bundle, model, pictures = x4
    lr = pictures.held_out[0].lr
    nothing = replace(bundle.manifest.quantization, layers=())
    for name in DIALECTS:
        same = quantize(model, nothing, name)
        np.testing.assert_allclose(candidate(same)(lr), candidate(model)(lr), atol=2e-6)


def test_biases_take_up_the_mean_error_of_the_weights(x4):
    bundle, model, _ = x4
    name = "hfms.1.adu.convs.1"
    quantization = replace(bundle.manifest.quantization, layers=(name,))
    scales = quantization.ranges["int8"].channel_scales
    scaled = equalized(model, scales)
    (node,) = [n for n in model.graph.node if n.name == name]
    values = GraphView(scaled).constants
    quantized = GraphView(quantize(model, quantization, "int8")).constants
    rounded = GraphView(round_weights(scaled, [name])).constants
    error = (rounded[node.input[1]] - values[node.input[1]]).astype(np.float64).sum((2, 3))
    source = node.input[0]
    means = quantization.channel_means[source] * channel_factors(model, scales)[source]
    assert np.abs(error @ means).max() > 1e-5
    moved = quantized[node.input[2]] - values[node.input[2]]
    np.testing.assert_allclose(moved, -error @ means, atol=1e-6)


def test_expected_loss_is_what_independent_noise_costs():
    rng = np.random.default_rng(0)
    original = rng.integers(60, 200, (400, 400)).astype(np.uint8)
    reference = original / 255 + rng.normal(0, 5 / 255, original.shape)
    output = reference + rng.normal(0, 1 / 255, original.shape)
    lost = psnr(original, reference * 255, 4) - psnr(original, output * 255, 4)
    arrays = (x[None, None].astype(np.float32) for x in (output, reference))
    expected = expected_loss(*arrays, original, 4)
    assert expected == pytest.approx(10 * np.log10(1 + 1 / 25), abs=5e-3)
    assert lost == pytest.approx(expected, abs=5e-3)


def two_layers():
    """Return a small ×4 graph like the network's: two layers and the base."""
    rng, node = np.random.default_rng(0), helper.make_node
    shapes = {
        "base.weight": (16, 1, 1, 1), "deconv.weight": (1, 2, 4, 4), "deconv.bias": 2,
        "last.weight": (1, 2, 3, 3), "last.bias": 1,
    }  # fmt: skip
    return tiny_model(
        [
            node("Conv", ["lr", "base.weight"], ["base.conv"], "base.conv"),
            node("DepthToSpace", ["base.conv"], ["base"], "base", blocksize=4, mode="CRD"),
            node(
                "ConvTranspose", ["lr", "deconv.weight", "deconv.bias"], ["deconv"], "deconv",
                pads=[0] * 4, strides=[4, 4],
            ),
            node("LeakyRelu", ["deconv"], ["deconv.leakyrelu"], "deconv.leakyrelu", alpha=0.05),
            node(
                "Conv", ["deconv.leakyrelu", "last.weight", "last.bias"], ["last"], "last",
                kernel_shape=[3, 3], pads=[1] * 4,
            ),
            node("Add", ["base", "last"], ["sr"], "add"),
        ],
        {"lr": (np.float32, ("batch", 1, "height", "width"))},
        {"sr": (np.float32, ("batch", 1, "4height", "4width"))},
        {name: rng.random(shape, np.float32) / 6 for name, shape in shapes.items()},
    )  # fmt: skip


@pytest.fixture
def few(x4):
    """Calibration images of one small photograph."""
    *_, pictures = x4
    small = Pair(pictures.held_out[0].lr[:, :, :9, :9], pictures.held_out[0].original[:36, :36])
    return Pictures((small,), (small.original,), (small,))


@pytest.mark.usefixtures("small_grid")
def test_a_budget_that_no_layer_keeps_is_refused(few, caplog):
    caplog.set_level("INFO")
    model = two_layers()
    with pytest.raises(InputError, match="no layer in INT8 stays within a loss of 0 dB"):
        Study(model, 4, few, 0.0, lambda quantization: True)
    found = Study(model, 4, few, 50.0, lambda quantization: True)
    assert found.quantization.layers == ("deconv", "last")
    assert found.chosen.macs_share == 1
    # What only a report needs is measured when it is read.
    assert "measuring 3 sets" not in caplog.text
    assert found.choices[-1].macs_share == 0
    assert "measuring 3 sets" in caplog.text


@pytest.mark.usefixtures("small_grid")
def test_layers_leave_until_the_gates_are_passed_or_too_few_are_left(few, monkeypatch, caplog):
    caplog.set_level("INFO")
    judged = []

    def study(passes):
        judged.clear()
        caplog.clear()
        found = Study(two_layers(), 4, few, 50.0, lambda x: judged.append(x) or passes(x))
        good = passes(judged[-1])
        assert caplog.text.count("fail a gate") == len(judged) - good
        assert found.chosen.macs_share == found.quantization.macs_share
        assert found.quantization == judged[-1 if good else 0]
        return [set(quantization.layers) for quantization in judged]

    both = {"deconv", "last"}
    monkeypatch.setattr(sensitivity, "LEAST", 0.9)
    assert study(lambda quantization: True) == [both]
    assert study(lambda quantization: len(quantization.layers) < 2) == [both, {"last"}]
    assert study(lambda quantization: False) == [both, {"last"}]
    # A layer that has too many of the multiply-accumulates stays, and the next one leaves.
    ranked = Study._ranked
    with monkeypatch.context() as patch:
        patch.setattr(Study, "_ranked", lambda self: ranked(self)[::-1])
        assert study(lambda quantization: False) == [both, {"last"}]
    monkeypatch.setattr(sensitivity, "LEAST", 1)
    assert study(lambda quantization: False) == [both]


def test_a_bias_beside_dead_weights_keeps_its_value(x4):
    bundle, model, _ = x4
    name = "hfms.0.eu.conv1"
    view = GraphView(model)
    weight, bias = (view.constants[f"{name}.{kind}"].copy() for kind in ("weight", "bias"))
    weight[3], bias[3] = 0, 1.5
    spoilt = {f"{name}.weight": weight, f"{name}.bias": bias}
    changed = view.changed(constants=view.tensors | spoilt)
    quantization = replace(bundle.manifest.quantization, layers=(name,))
    values = GraphView(quantize(changed, quantization, "int8-cpu")).constants
    bias = values[f"{name}.bias.quantized"] * values[f"{name}.bias.scale"].astype(np.float64)
    scale = quantization.ranges["int8-cpu"].channel_scales[name][3]
    assert bias[3] == pytest.approx(1.5 * scale, rel=1e-5)


def test_a_tensor_of_zeros_can_be_quantised(x4):
    _, model, _ = x4
    name = "hfms.0.eu.conv1"
    tensors = observed_tensors(model, [name])
    learned = [node for node in model.graph.node if is_learned(node)]
    sizes = {node.name: GraphView(model).tensors[node.input[2]].dims[0] for node in learned}
    ranges = Ranges(
        channel_scales={layer: (1.0,) * size for layer, size in sizes.items()},
        limits=dict.fromkeys(tensors, (0.0, 0.0)),
    )
    means = dict.fromkeys(tensors, (0.0,) * 48)
    quantization = Quantization("", 0.0, (name,), 0.0, means, dict.fromkeys(DIALECTS, ranges))
    for dialect in DIALECTS:
        run = candidate(quantize(model, quantization, dialect))
        assert np.isfinite(run(np.ones((1, 1, 8, 8), np.float32))).all()
