import json
import os
import shutil
import subprocess
import sys

import numpy as np
import onnx
import psutil
import pytest
from PIL import Image

from hfdn_deploy import Upscaler
from hfdn_deploy.bundle import pretrained
from hfdn_deploy.cli import main
from hfdn_deploy.machine import cpus
from tests.helpers.commands import refused
from tests.helpers.paths import ROOT


def test_info_knows_every_kind(picture, bundle, checkpoint, tmp_path, capsys):
    (tmp_path / "a.engine").write_bytes(b"engine")
    shutil.copy(bundle / "fp32.onnx", tmp_path / "a.onnx")
    for path, expected in [
        (bundle, {"kind": "bundle", "parameters": 760_127}),
        (tmp_path / "a.onnx", {"kind": "onnx", "opset": {"ai.onnx": 18}}),
        (tmp_path / "a.engine", {"kind": "engine", "bytes": 6}),
        (checkpoint, {"kind": "checkpoint", "parameters": 760_127}),
        (picture, {"kind": "image", "width": 83, "height": 60, "channels": 3, "dtype": "uint8"}),
    ]:
        assert main(["info", str(path), "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert expected.items() <= facts.items()
        assert main(["info", str(path)]) == 0
        assert f"kind: {expected['kind']}" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "kind"), [("a.gif", "GIF"), ("a.jpe", "JPEG")])
def test_info_tells_an_animation_and_the_format(tmp_path, capsys, name, kind):
    frames = [Image.new("RGB", (6, 4), color) for color in ("red", "blue")]
    several = (
        {"save_all": True, "append_images": frames[1:], "duration": 150} if kind == "GIF" else {}
    )
    frames[0].save(tmp_path / name, kind, **several)
    assert main(["info", str(tmp_path / name), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["format"], facts["animated"]) == (kind, kind == "GIF")
    if kind == "GIF":
        assert (facts["frames"], facts["seconds"]) == (2, 0.3)


def test_info_on_an_onnx_file_with_odd_names_and_types(tmp_path, capsys):
    nodes = [onnx.helper.make_node(kind, [], ["x"]) for kind in ("@", "Relu")]
    value = onnx.helper.make_tensor_value_info("x", 99, [1])
    graph = onnx.helper.make_graph(nodes, "g", [value], [])
    model = onnx.helper.make_model(graph, producer_name="@")
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString().replace(b"@", b"\xff"))
    assert main(["info", str(tmp_path / "a.onnx"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["operators"] == {"Relu": 1, r"\xff": 1}
    assert facts["producer"] == r"\xff"
    assert facts["inputs"] == ["%x[unknown type]"]


def test_info_on_a_bundle_shows_parity_and_checks_the_files(bundle, tmp_path, capsys):
    assert main(["info", str(bundle), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["parity"]["fp32"]
    assert found["worst"]["max_abs"] <= 1e-4
    assert found["failed"] is None
    assert main(["info", str(bundle)]) == 0
    assert "\n  fp32:\n    gates: all 3 passed\n    largest difference: " in capsys.readouterr().out
    copy = shutil.copytree(bundle, tmp_path / "copy")
    with (copy / "fp32.onnx").open("ab") as file:
        file.write(b"x")
    assert refused(capsys, "info", copy)[0] == 2


def test_info_on_a_bundle_tells_departures_in_words(edit_manifest, tmp_path, capsys):
    bundle = shutil.copytree(pretrained(2).path, tmp_path / "copy")

    def change(manifest):
        manifest["derived"] = {"bf16": manifest["derived"]["bf16"]}
        gate = {"name": "max_levels", "value": 9.5, "limit": 9}
        row = {**manifest["derived"]["bf16"]["kinds"][0], "rms_levels": 0.255, "kind": "noise"}
        rows = [
            row | {"max_levels": largest, "beyond": {**row["beyond"], "8": 2e-4}}
            for largest in (0.3, 1.2, 9)
        ]
        manifest["derived"]["bf16"] |= {"gates": [gate], "kinds": rows}
        rows[1]["kind"], rows[2]["kind"] = "text", "rays"

    edit_manifest(bundle, change)
    assert main(["info", str(bundle)]) == 0
    assert capsys.readouterr().out.endswith(
        "  bf16:\n"
        "    gates: failed, max_levels is 9.5, allowed 9\n"
        "    noise: less than half a level off\n"
        "    text: up to 1 level off, at least 60.0 dB\n"
        "    rays: up to 9 levels off, at least 60.0 dB; 2.0 in 10,000 pixels are more than 8 off\n"
    )


def test_info_on_what_is_not_known(tmp_path, capsys):
    for name, data in [
        ("a.onnx", b"\xff" * 99),
        ("b.onnx", b""),
        ("a.xyz", b""),
        ("a.safetensors", b"1"),
    ]:
        (tmp_path / name).write_bytes(data)
        code, line = refused(capsys, "info", tmp_path / name)
        assert code == 2
        assert name in line
    assert refused(capsys, "info", tmp_path / "missing.png")[0] == 2


def test_doctor(capsys):
    assert main(["doctor", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["packages"]["numpy"] == np.__version__
    assert facts["formats"]["PNG"] == "works"
    assert facts["backends"]["onnxruntime"] == "works"
    assert (facts["backends"]["torch"] == "works") == bool(facts["packages"]["torch"])
    assert "onnxruntime-gpu" in facts["backends"]["cuda"]
    assert facts["cpus"] == cpus()
    with Upscaler.load(4, precision="auto") as up:
        assert facts["automatic_precision"] == up.choice
    assert 0 < facts["free_memory_mib"] <= psutil.virtual_memory().total // 2**20


def test_doctor_names_an_onnxruntime_that_cannot_be_imported(tmp_path):
    """Like onnxruntime 1.18 beside NumPy 2, which gives no reason."""
    (tmp_path / "onnxruntime.py").write_text("raise ImportError")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "hfdn_deploy", "doctor", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, check=True, cwd=ROOT)
    report = json.loads(done.stdout)
    (problem,) = report["problems"]
    assert problem.startswith("ONNX Runtime cannot be imported (no reason given; it may be too old")
    assert report["backends"]["onnxruntime"] == problem
