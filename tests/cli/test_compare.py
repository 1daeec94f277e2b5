import json

import numpy as np
import pytest

from hfdn_deploy import Upscaler
from hfdn_deploy.bench import psnr
from hfdn_deploy.cli import main
from hfdn_deploy.images import read_image, write_image
from tests.helpers.commands import refused


@pytest.mark.parametrize("channels", [None, 3, 4])
def test_two_precisions(tmp_path, photo, capsys, channels):
    image = np.dstack([photo, photo[..., :1]])[:30, :40]
    image = image[..., 0] if channels is None else image[..., :channels]
    write_image(tmp_path / "a.png", image)
    command = ["compare", "fp32", "onnxruntime,int8", "--input", str(tmp_path / "a.png")]
    command += ["--scale", "2", "--backend", "openvino", "-o", str(tmp_path / "b.png")]
    assert main([*command, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    with (
        Upscaler.load(2, "openvino") as first,
        Upscaler.load(2, "onnxruntime", "int8") as second,
    ):
        a, b = (up(image).astype(float) for up in (first, second))
    assert report["a"] == {"model": "2", "scale": 2, "backend": "openvino", "precision": "fp32"}
    assert report["b"] | {"backend": "onnxruntime", "precision": "int8"} == report["b"]
    assert report["psnr_db"] == pytest.approx(psnr(a.reshape(60, -1), b.reshape(60, -1)), abs=0.001)
    apart = np.abs(a - b)
    assert report["largest_difference"] == apart.max() > 0
    assert report["mean_difference"] == pytest.approx(apart.mean(), abs=1e-6)
    assert report["values_that_differ"] == pytest.approx((apart > 0).mean(), abs=1e-6)
    assert report["written"] == str(tmp_path / "b.png")
    shown = read_image(tmp_path / "b.png")
    colour = apart[..., :3] if channels else apart
    assert np.array_equal(shown, np.round(colour * 255 / apart.max()))
    assert main([*command, "--force"]) == 0
    assert f"written: {tmp_path / 'b.png'}" in capsys.readouterr().out


def test_a_model_and_itself(tmp_path, photo, capsys):
    write_image(tmp_path / "a.png", photo[:9, :8])
    command = ["compare", "x2", "x2,onnxruntime", "--backend", "onnxruntime"]
    assert main([*command, "--input", str(tmp_path / "a.png"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["psnr_db"] is None
    assert report["largest_difference"] == report["values_that_differ"] == 0


def test_refusals(tmp_path, photo, capsys):
    picture = tmp_path / "a.png"
    link = tmp_path / "link.png"
    link.symlink_to(tmp_path / "nothing.png")
    write_image(picture, photo[:9, :8])
    for arguments, code, words in [
        (["x2", "x4", "--input", picture], 2, "x2 is ×2 and x4 ×4; compare models of one scale."),
        (["x2", "no/bundle", "--input", picture], 2, "no/bundle is not a bundle"),
        (["fp32", "fp16", "--input", picture, "--backend", "openvino"], 4, "not fp16"),
        (["fp32", "int8", "--input", picture, "-o", "a.xcf"], 2, "unknown image format '.xcf'"),
        (["fp32", "int8", "--input", picture, "-o", picture], 2, "already exists, perhaps"),
        (["fp32", "int8", "--input", picture, "-o", link], 2, "already exists, perhaps"),
        (["fp32", "int8", "--input", picture, "-o", picture, "--force"], 2, "is the input"),
    ]:
        found = refused(capsys, "compare", *arguments)
        assert found[0] == code, arguments
        assert words in found[1]
