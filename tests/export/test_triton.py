from types import SimpleNamespace

import onnx
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from export.cli import main
from hfdn_deploy.bundle import pretrained
from hfdn_deploy.engines import (
    BuildSpec,
    ShapeProfile,
    cached_engine,
    presets,
    why_unavailable,
)
from hfdn_deploy.graph import GraphView, network_in
from tests.helpers.graphs import load_graph

pytestmark = pytest.mark.usefixtures("small_grid")


def config(folder):
    text = (folder / "config.pbtxt").read_text()
    return text_format.Parse(text, model_config_pb2.ModelConfig())


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_triton_would_load_the_repository(tmp_path, device):
    repository = tmp_path / "models"
    assert main(["triton", "x3", "-o", str(repository), "--device", device]) == 0
    names = ["hfdn_x3_fp16", "hfdn_x3_fp32", "hfdn_x3_int8"]
    assert sorted(path.name for path in repository.iterdir()) == names
    for name in names:
        model = config(repository / name)
        assert (model.name, model.backend) == (name, "onnxruntime")
        assert (model.input[0].name, list(model.input[0].dims)) == ("image", [-1, -1, 3])
        assert (model.output[0].name, list(model.output[0].dims)) == ("upscaled", [-1, -1, 3])
        assert model.input[0].data_type == model_config_pb2.TYPE_UINT8
        assert model.output[0].data_type == model_config_pb2.TYPE_UINT8
        assert model.max_batch_size == 8
        assert model.dynamic_batching.max_queue_delay_microseconds > 0
        kinds = {"cuda": "KIND_GPU", "cpu": "KIND_CPU"}
        (group,) = model.instance_group
        assert group.Kind.Name(group.kind) == kinds[device]
        warm = model.model_warmup[0].inputs["image"]
        assert warm.random_data
        assert list(warm.dims) == [180, 320, 3]
    served = onnx.load(repository / "hfdn_x3_int8" / "1" / "model.onnx")
    graph = load_graph("int8" if device == "cuda" else "int8-cpu", 3)
    nodes, tensors = network_in(served)
    assert (nodes, tensors) == (list(graph.graph.node), GraphView(graph).tensors)


def test_an_engine_is_served_with_one_profile(tmp_path, monkeypatch):
    """The batch and the warm-up lie in that profile."""
    profiles = [
        ShapeProfile("small", (1, 8, 8), (4, 32, 32), (16, 64, 64)),
        ShapeProfile("large", (1, 64, 64), (2, 180, 320), (4, 540, 960)),
    ]
    path = tmp_path / "a.plan"
    path.write_bytes(b"of another machine")
    (lr, sr) = (pretrained(4).entry("fp16").input, pretrained(4).entry("fp16").output)
    spec = SimpleNamespace(flavour="tensorrt", profiles=profiles)
    said = SimpleNamespace(scale=4, precision="fp16", inputs=[lr], output=sr, spec=spec)
    monkeypatch.setattr("export.triton.open_engine", lambda _: SimpleNamespace(manifest=said))
    output = tmp_path / "models"
    assert main(["triton", "x4", "-o", str(output), "--engine", str(path)]) == 0
    model = config(output / "hfdn_x4_fp16_tensorrt")
    assert (model.max_batch_size, list(model.instance_group[0].profile)) == (4, ["1"])
    warm_up = model.model_warmup[0]
    assert (warm_up.batch_size, list(warm_up.inputs["lr"].dims)) == (2, [1, 180, 320])
    assert model.input[0].data_type == model_config_pb2.TYPE_FP32


def test_an_existing_folder_is_kept(tmp_path, capsys):
    assert main(["triton", "x3", "-o", str(tmp_path)]) == 2
    assert "exists" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_engines_that_triton_cannot_load_are_refused(tmp_path, monkeypatch, capsys):
    if reason := why_unavailable("rtx"):
        pytest.skip(reason)
    monkeypatch.setenv("HFDN_CACHE", str(tmp_path / "cache"))
    spec = BuildSpec("rtx", (presets(4)["tile"],), ("sm89",))
    engine = cached_engine(pretrained(4), "fp16", spec)
    output = tmp_path / "models"
    assert main(["triton", "x4", "-o", str(output), "--engine", str(engine)]) == 2
    assert "build it with --flavour tensorrt" in capsys.readouterr().err
    assert not output.exists()
