"""The image graph as a file: the pixels of `Upscaler`, with ONNX Runtime alone."""

import json
import shutil

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from export.cli import main
from export.image import judge
from hfdn_deploy import GateError, Upscaler
from hfdn_deploy.bundle import pretrained, pretrained_scales
from hfdn_deploy.cli import main as hfdn
from hfdn_deploy.graph import GraphView, PixelFormat, image_graph
from tests.helpers.graphs import load_graph

pytestmark = pytest.mark.usefixtures("small_grid")


def export(tmp_path, *options, model="x2"):
    path = tmp_path / "image.onnx"
    assert main(["image", model, "-o", str(path), *options]) == 0
    return path


def run(path, image):
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": image})[0]


@pytest.mark.parametrize("scale", pretrained_scales())
@pytest.mark.parametrize(
    # Luma that differs in its last bit is quantised differently in places; for comparison, INT8
    # leaves a third of the values of FP32.
    ("precision", "most", "share"),
    [("fp32", 1, 1e-3), ("fp16", 1, 1e-3), ("int8", 4, 0.1)],
)
def test_pixels_are_those_of_the_upscaler(tmp_path, photo, scale, precision, most, share):
    path = export(tmp_path, "--precision", precision, model=f"x{scale}")
    images = np.stack([photo, photo[::-1, ::-1]])
    results = run(path, images)
    assert results.dtype == np.uint8
    with Upscaler.load(scale, "onnxruntime", precision) as up:
        for image, result in zip(images, results, strict=True):
            distance = np.abs(up(image).astype(int) - result)
            assert distance.max() <= most
            assert (distance > 0).mean() < share


FORMATS = [
    ("--layout nchw", lambda image: image.transpose(2, 0, 1)[None], 1),
    ("--channels bgr", lambda image: image[None, ..., ::-1], 1),
    ("--channels grey", lambda image: image[None, ..., :1], 1),
    ("--channels grey --dtype float32", lambda image: image[None, ..., :1] / np.float32(255), 1e-5),
    ("--dtype uint16", lambda image: image[None].astype(np.uint16) * 257, 2),
    ("--dtype float32", lambda image: image[None] / np.float32(255), 1e-5),
    (
        "--dtype float16 --layout nchw --channels bgr",
        lambda image: (image[None, ..., ::-1].transpose(0, 3, 1, 2) / 255).astype(np.float16),
        1e-3,
    ),
    ("--size 83x60", lambda image: image[None], 1),
    ("--opset 13", lambda image: image[None], 1),
]


@pytest.mark.parametrize(("options", "laid_out", "within"), FORMATS)
def test_pixels_of_other_formats(tmp_path, photo, options, laid_out, within):
    path = export(tmp_path, *options.split())
    image = np.ascontiguousarray(laid_out(photo))
    result = run(path, image)[0]
    if "nchw" in options:
        image, result = image.transpose(0, 2, 3, 1), result.transpose(1, 2, 0)
    if "bgr" in options:
        image, result = image[..., ::-1], result[..., ::-1]
    halves = image.dtype == np.float16
    with Upscaler.load(2, "onnxruntime") as up:
        expected = up(np.ascontiguousarray(image[0], np.float32 if halves else None))
    assert (result.dtype, result.shape) == (image.dtype, expected.shape)
    assert np.abs(result.astype(np.float64) - expected).max() <= within


def test_what_cannot_be_is_one_sentence(tmp_path, capsys):
    command = ["image", "x2", "-o", str(tmp_path / "a.onnx")]
    for options, reason in (
        ("--channels rgba", "transparency needs more than plain operators"),
        ("--opset 12", "opset 12 is not supported; choose one from 13 to 18"),
        ("--opset 19", "opset 19 is not supported"),
        ("-o photo.png", "photo.png is not the name of an ONNX file; let it end in .onnx"),
        ("--size 200000x200000", "is too large to judge the graph on; leave the size out"),
        ("--size 99999999999999999999x4", "is too large to judge the graph on"),
    ):
        assert main([*command, *options.split()]) == 2
        assert reason in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_bundle_is_not_written_into(tmp_path, capsys):
    bundle = shutil.copytree(pretrained(2).path, tmp_path / "x2")
    before = (bundle / "fp32.onnx").read_bytes()
    assert main(["image", str(bundle), "-o", str(bundle / "fp32.onnx")]) == 2
    assert "would lie in the bundle; name a file outside it" in capsys.readouterr().err
    assert (bundle / "fp32.onnx").read_bytes() == before


def test_the_file_says_what_it_is(tmp_path, capsys):
    path = export(tmp_path, "--precision", "int8", "--engine", "tensorrt")
    capsys.readouterr()
    assert hfdn(["info", str(path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    manifest = pretrained(2).manifest
    assert facts["hfdn.scale"] == "2"
    assert (facts["hfdn.precision"], facts["hfdn.graph"]) == ("int8", "int8")
    assert facts["hfdn.engines"] == "TensorRT, and ONNX Runtime on a GPU"
    assert facts["hfdn.checkpoint_sha256"] == manifest.checkpoint_sha256
    assert facts["hfdn.halo"] == f"{manifest.files[0].halo} pixels of the input"
    assert facts["inputs"] == ["%image[UINT8, batchxheightxwidthx3]"]
    assert facts["hfdn.pixels"] == "rgb in uint8, 0 to 255, (N, H, W, C)"
    other = export(tmp_path, "--channels", "bgr", "--dtype", "float16", "--layout", "nchw")
    pixels = {x.key: x.value for x in onnx.load(other).metadata_props}["hfdn.pixels"]
    assert pixels == "bgr in float16, 0 to 1, (N, C, H, W)"


def test_another_network_or_other_colours_fail_the_gate():
    network, pixels = load_graph("fp32"), PixelFormat()
    made = image_graph(network, 4, pixels)
    assert judge(made, network, 4, pixels) <= 1
    view = GraphView(made)
    colours = {"ycbcr.weight": view.constants["ycbcr.weight"][::-1].copy()}
    with pytest.raises(GateError, match="the luma of the image graph differs"):
        judge(view.changed(constants=view.tensors | colours), network, 4, pixels)
    inside = next(name for name in view.tensors if name.startswith("network/"))
    other = {inside: view.constants[inside] * np.float32(1.001)}
    with pytest.raises(GateError, match="is not the bundle's"):
        judge(view.changed(constants=view.tensors | other), network, 4, pixels)


def test_plain_operators_alone(tmp_path):
    model = onnx.load(export(tmp_path))
    onnx.checker.check_model(model, full_check=True)
    assert {entry.domain for entry in model.opset_import} == {""}
    assert {node.op_type for node in model.graph.node} <= {
        "Add", "Cast", "Clip", "Concat", "Conv", "ConvTranspose", "DepthToSpace",
        "GlobalAveragePool", "LeakyRelu", "Mul", "Pad", "Round",
        "Sigmoid", "Split", "Transpose",
    }  # fmt: skip


@pytest.mark.parametrize("command", ["image", "triton", "web"])
def test_an_output_that_cannot_be_written_is_found_before_the_work(
    tmp_path, monkeypatch, capsys, command
):
    monkeypatch.setattr("export.web._fetched", lambda folder: pytest.fail("it was fetched"))
    for module in ("image", "triton", "web"):
        made = f"export.{module}.make_image_graph"
        monkeypatch.setattr(made, lambda *_: pytest.fail("it was made"))
    (tmp_path / "file").touch()
    output = tmp_path / "file" / "out.onnx"
    assert main([command, "x2", "-o", str(output)]) == 2
    assert f"error: {output} cannot be written" in capsys.readouterr().err
