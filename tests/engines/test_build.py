"""Real builds by TensorRT-RTX, which do not need a GPU."""

from dataclasses import replace

import onnx
import pytest

from hfdn_deploy.bundle import TensorSpec, pretrained, pretrained_scales
from hfdn_deploy.engines import BuildSpec, ShapeProfile, build_engine, presets
from hfdn_deploy.errors import BackendError, InputError
from hfdn_deploy.graph import image_graph

PHOTO = presets(4)["photo"]


def spec(*profiles, targets=("sm86", "sm89", "sm120"), **options):
    return BuildSpec("rtx", profiles or (PHOTO,), targets, **options)


def entry_and_model(scale, graph):
    bundle = pretrained(scale)
    return bundle.entry(graph), bundle.read_model(graph)


@pytest.mark.parametrize("scale", pretrained_scales())
def test_every_precision_builds_for_every_generation(trt, scale):
    sizes = {}
    for graph in ("fp32", "fp16", "int8"):
        entry, model = entry_and_model(scale, graph)
        sizes[graph] = len(build_engine(graph, model, [entry.input], spec()))
    # Most of an engine are its weights, which take half the bytes in fp16.
    assert 0.5 * sizes["fp32"] < sizes["fp16"] < 0.9 * sizes["fp32"]
    assert sizes["int8"] > 1_000_000


@pytest.mark.parametrize("graph", ["fp32", "fp16", "int8"])
def test_the_image_graph_builds_for_every_generation(trt, graph):
    entry, network = entry_and_model(2, graph)
    model = image_graph(onnx.load_model_from_string(network), 2)
    image = TensorSpec.from_onnx(model.graph.input[0])
    assert (image.dtype, image.shape[3]) == ("uint8", 3)
    engine = build_engine(graph, model.SerializeToString(), [image], spec())
    assert len(engine) > len(build_engine(graph, network, [entry.input], spec()))


@pytest.mark.parametrize("scale", pretrained_scales())
def test_the_int8_graph_is_parsed_as_eight_bits(trt, scale):
    _, model = entry_and_model(scale, "int8")
    log = trt.Logger(trt.Logger.ERROR)
    strong = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = trt.Builder(log).create_network(strong)
    assert trt.OnnxParser(network, log).parse(model)
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    quantized = [layer for layer in layers if layer.type == trt.LayerType.QUANTIZE]
    assert len(quantized) > 20
    assert {layer.get_output(0).dtype for layer in quantized} == {trt.int8}


def test_several_profiles_and_targets_make_a_larger_engine(trt):
    entry, model = entry_and_model(4, "fp16")
    one = build_engine("fp16", model, [entry.input], spec(targets=("sm89",)))
    profiles = presets(4)
    every = spec(*profiles.values(), targets=("sm89",))
    more = build_engine("fp16", model, [entry.input], every)
    assert len(more) > 1.5 * len(one)


def test_a_node_that_cannot_be_parsed_is_named(trt):
    entry, model = entry_and_model(4, "fp32")
    broken = onnx.load_model_from_string(model)
    node = next(node for node in broken.graph.node if node.op_type == "Conv")
    node.op_type = "NoSuchOperator"
    with pytest.raises(BackendError, match=rf"node '{node.name}' \(NoSuchOperator\): "):
        build_engine("broken", broken.SerializeToString(), [entry.input], spec())


def test_a_refused_build_tells_the_reason(trt):
    entry, model = entry_and_model(4, "fp16")
    small = spec(targets=("sm89",), workspace=1 << 20)
    with pytest.raises(BackendError, match=r"cannot build fp16 for sm89: .*workspace"):
        build_engine("fp16", model, [entry.input], small)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (("10x10", "5x5", "20x20"), "does not ascend"),
        (("0x10", "10x10", "20x20"), "does not ascend"),
        (("10x10", "10", "20x20"), "'10' is not a shape"),
        (("10x10", "20x20", "1e3x20"), "is not a shape"),
    ],
)
def test_profiles_are_checked_before_the_build(shapes, message):
    entry = pretrained(4).entry("fp16")
    with pytest.raises(InputError, match=message):
        spec(ShapeProfile.parse(*shapes)).check(entry)


def test_profiles_are_checked_against_the_graph():
    entry = pretrained(4).entry("fp16")
    large = replace(entry, minimum_size=(8, 8))
    with pytest.raises(InputError, match="smallest input, 8x8"):
        spec(ShapeProfile.parse("7x8", "8x8", "9x9")).check(large)
    fixed = replace(entry, input=replace(entry.input, shape=(1, 1, "height", "width")))
    with pytest.raises(InputError, match="varies N, which the graph fixes to 1"):
        spec(ShapeProfile.parse("1x8x8", "2x8x8", "2x9x9")).check(fixed)


@pytest.mark.parametrize("workspace", [-1, 0, 2**63])
def test_an_impossible_workspace_is_refused(workspace):
    with pytest.raises(InputError, match="workspace"):
        spec(workspace=workspace).check(pretrained(4).entry("fp16"))


@pytest.mark.parametrize("option", ["hardware_compatible", "version_compatible"])
def test_modes_that_rtx_does_not_have_are_refused(option):
    with pytest.raises(InputError, match="TensorRT-RTX has no compatible modes"):
        spec(**{option: True}).check(pretrained(4).entry("fp16"))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_frames_cover_the_size_that_names_them(scale):
    for name, size in (("720p", (720, 1280)), ("1080p", (1080, 1920))):
        profile = presets(scale)[name]
        assert profile.minimum == profile.optimum == profile.maximum
        covered = [scale * side for side in profile.optimum[1:]]
        assert all(0 <= got - side < scale for got, side in zip(covered, size, strict=True))
