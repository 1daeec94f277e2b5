"""Engines for tiles: real builds of the parts of a graph, with profiles and sidecars."""

import json

import onnx
import pytest

from hfdn_deploy.bundle import TensorSpec, pretrained
from hfdn_deploy.cli import main
from hfdn_deploy.engines import (
    BuildSpec,
    ShapeProfile,
    cached_engine,
    open_engine,
    optimization_profile,
    presets,
    read_sidecar,
    sidecar_path,
)
from hfdn_deploy.engines import cache as engine_cache
from hfdn_deploy.errors import BackendError, BundleError, EngineError
from hfdn_deploy.graph import PARTS, part_of
from hfdn_deploy.upscaler import Upscaler

PHOTO = presets(2)["photo"]
SPEC = BuildSpec("rtx", (PHOTO,), ("sm89",))
LUMA = ("batch", 1, "height", "width")
PIXELS = ("batch", "height", "width", 3)
VECTOR = ("batch", 48, 1, 1)
TENSORS = {
    "whole": ({"lr": LUMA}, "sr"),
    "image": ({"image": PIXELS}, "upscaled"),
    "statistics": ({"lr": LUMA, "inside": LUMA}, "sums"),
    "tile": ({"lr": LUMA, "pooled": VECTOR}, "sr"),
}


def build(part, precision="fp16", spec=SPEC):
    return cached_engine(pretrained(2), precision, spec, part)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_parts_are_built_once_and_their_sidecars_tell_them(trt, cache, precision):
    engines = {part: build(part, precision) for part in PARTS}
    assert len(list(cache.glob("*/engine/*.engine"))) == len(PARTS)
    for part, engine in engines.items():
        manifest = open_engine(engine, part=part).manifest
        inputs, output = TENSORS[part]
        assert manifest.part == part
        assert {tensor.name: tensor.shape for tensor in manifest.inputs} == inputs
        assert manifest.output.name == output
        dtypes = {tensor.dtype for tensor in (*manifest.inputs, manifest.output)}
        assert dtypes == {"uint8" if part == "image" else "float32"}
        # An engine contains the names of its tensors only.
        data = engine.read_bytes()
        assert all(name.encode() in data for name in (*inputs, output))
        foreign = {"inside", "sums", "pooled"} - {*inputs, output}
        assert not [name for name in foreign if name.encode() in data]
    before = {engine: engine.stat().st_mtime_ns for engine in engines.values()}
    assert {part: build(part, precision) for part in PARTS} == engines
    assert before == {engine: engine.stat().st_mtime_ns for engine in engines.values()}
    # The statistics do not need the heads.
    assert engines["statistics"].stat().st_size < 0.9 * engines["whole"].stat().st_size


@pytest.mark.parametrize("part", PARTS)
def test_every_input_has_the_profiles_shapes(trt, part):
    """Every input of the parsed network is in the profiles, with the given shapes."""
    data = part_of(pretrained(2).read_model("fp16"), part, 2)
    log = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    assert trt.OnnxParser(network, log).parse(data)
    specs = [TensorSpec.from_onnx(value) for value in onnx.load_model_from_string(data).graph.input]
    profile = ShapeProfile("custom", (1, 2, 3), (4, 50, 60), (7, 80, 90))
    kept = optimization_profile(builder, specs, profile)
    found = {
        tensor.name: [tuple(shape) for shape in kept.get_shape(tensor.name)]
        for tensor in map(network.get_input, range(network.num_inputs))
    }
    expected = {
        LUMA: [(1, 1, 2, 3), (4, 1, 50, 60), (7, 1, 80, 90)],
        PIXELS: [(1, 2, 3, 3), (4, 50, 60, 3), (7, 80, 90, 3)],
        VECTOR: [(1, 48, 1, 1), (4, 48, 1, 1), (7, 48, 1, 1)],
    }
    assert found == {name: expected[shape] for name, shape in TENSORS[part][0].items()}


def test_outputs_have_the_sizes_that_sidecars_promise(trt):
    for part, size in (
        ("whole", (2, 1, 10, 14)),
        ("image", (2, 10, 14, 3)),
        ("statistics", (2, 48, 1, 1)),
    ):
        output = read_sidecar(build(part)).output
        assert output.sized(2, 10, 14) == size


def test_a_part_is_not_taken_for_another(trt):
    tile = build("tile")
    for part in ("whole", "statistics"):
        with pytest.raises(EngineError, match=f"holds the tile part .* the {part} part is need"):
            open_engine(tile, part=part)
    with pytest.raises(EngineError, match="name the bundle, x2"):
        Upscaler.load(tile)


@pytest.mark.parametrize("part", ["statistics", "tile"])
def test_a_changed_part_is_refused(trt, part):
    engine = build(part)
    path = sidecar_path(engine)
    good = path.read_text()
    path.write_text(json.dumps({**json.loads(good), "part": "whole"}))
    with pytest.raises(EngineError, match="damaged: inputs are not those of part 'whole'"):
        open_engine(engine)
    inputs = json.loads(good)["inputs"][:1]
    path.write_text(json.dumps({**json.loads(good), "part": "whole", "inputs": inputs}))
    with pytest.raises(EngineError, match="was edited"):
        open_engine(engine)
    path.write_text(json.dumps({**json.loads(good), "part": "half"}))
    with pytest.raises(EngineError, match="damaged: part is 'half'"):
        open_engine(engine)
    path.write_text(json.dumps({**json.loads(good), "part": "whole", "inputs": []}))
    with pytest.raises(EngineError, match="damaged: inputs"):
        open_engine(engine)


def test_a_damaged_part_is_built_anew_and_says_how(trt, caplog):
    engine = build("tile")
    engine.write_bytes(engine.read_bytes()[:-1])
    assert "delete it, and it is built again when it is needed" in read_sidecar(engine).rebuild
    again = build("tile")
    assert "It is built again" in caplog.text
    assert open_engine(again, part="tile").manifest.bytes == again.stat().st_size


def test_the_key_of_a_part_is_that_of_its_own_graph(trt, cache, monkeypatch):
    """A release that cuts graphs differently does not run the engines of its predecessor."""
    first = build("statistics")

    def cut_otherwise(data, part, scale):
        model = onnx.load_model_from_string(part_of(data, part, scale))
        model.producer_name = "another"
        return model.SerializeToString()

    monkeypatch.setattr(engine_cache, "part_of", cut_otherwise)
    assert build("statistics").parent != first.parent


def test_a_network_that_does_not_pool_has_no_parts():
    model = onnx.load_model_from_string(pretrained(2).read_model("fp32"))
    for node in model.graph.node:
        if node.op_type == "GlobalAveragePool":
            node.op_type = "GlobalMaxPool"
    assert part_of(model.SerializeToString(), "whole", 2) == model.SerializeToString()
    with pytest.raises(BundleError, match="takes no mean over the image"):
        part_of(model.SerializeToString(), "tile", 2)


def test_an_engine_alone_runs_no_tiles(trt, capsys):
    engine = build("whole")
    with pytest.raises(BackendError, match=r"but tiles need parts of it; use its bundle, x2, or"):
        Upscaler.load(engine, tile=64)
    arguments = ["upscale", "x.png", "-o", "y.png", "--model", str(engine), "--tile", "64"]
    assert main(arguments) == 4
    assert len(capsys.readouterr().err.splitlines()) == 1
