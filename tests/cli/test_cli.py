import json
import os
import shutil
import signal
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from hfdn_deploy import backends
from hfdn_deploy.cli import main
from hfdn_deploy.engines import flavour
from hfdn_deploy.images import read_image, write_image
from tests.helpers.paths import ROOT


@pytest.fixture
def picture(tmp_path, photo):
    write_image(tmp_path / "photo.png", photo)
    return tmp_path / "photo.png"


def test_one_file(picture, bundle, tmp_path, photo, capsys):
    output = tmp_path / "out.png"
    assert main(["upscale", str(picture), "-o", str(output), "--model", str(bundle), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["backend"] == "openvino"
    assert report["images"][0]["width"] == 4 * photo.shape[1]
    assert read_image(output).shape == (4 * photo.shape[0], 4 * photo.shape[1], 3)


def test_folders_and_globs_keep_names(tmp_path, photo, bundle):
    for name in ("in/a.png", "in/b.tif", "in/note.txt", "more/c1.png", "more/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        if name.endswith("txt"):
            (tmp_path / name).write_text("no image")
        else:
            write_image(tmp_path / name, photo[:5, :6])
    inputs = [str(tmp_path / "in"), str(tmp_path / "more" / "c*.png")]
    assert main(["upscale", *inputs, "-o", str(tmp_path / "out"), "--model", str(bundle)]) == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.png", "b.tif", "c1.png"]
    assert read_image(tmp_path / "out" / "b.tif").shape == (20, 24, 3)


def run(capsys, *arguments):
    """Exit code and the one line on stderr that says what is wrong."""
    code = main([str(a) for a in arguments])
    lines = capsys.readouterr().err.splitlines()
    lines = [line for line in lines if not line.startswith("backend: ")]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return code, lines[0]


def test_bad_inputs_are_one_sentence(picture, bundle, checkpoint, tmp_path, capsys):
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    out = tmp_path / "out.png"
    model = ["--model", bundle]
    for arguments, code, words in [
        ([tmp_path / "missing.png", "-o", out, *model], 2, "missing.png cannot be read"),
        ([tmp_path / "text.png", "-o", out, *model], 2, "no image"),
        ([tmp_path / "empty", "-o", out, *model], 2, "no image in"),
        ([tmp_path / "*.xyz", "-o", out, *model], 2, "no image in"),
        ([picture, picture, "-o", out, *model], 2, "one file for 2 images"),
        ([picture, picture, "-o", tmp_path / "d", *model], 2, "would both become"),
        ([picture, "-o", picture, *model], 2, "overwrite an input"),
        ([picture, "-o", tmp_path, *model, "--force"], 2, "overwrite an input"),
        ([picture, "-o", tmp_path / "file" / "a.png", *model], 2, "a.png cannot be written"),
        ([picture, "-o", tmp_path / "out.gif", *model], 2, "no image format '.gif'"),
        ([picture, "-o", tmp_path / ("a" * 300 + ".png"), *model], 2, "too long"),
        ([picture, "-o", out, "--model", tmp_path], 2, "is no bundle"),
        ([picture, "-o", out, "--scale", 7], 2, "no pretrained bundle for scale 7"),
        ([picture, "-o", out, *model, "--precision", "int8"], 2, "no int8-cpu graph"),
        ([picture, "-o", out, *model, "--backend", "cuda"], 4, "onnxruntime-gpu"),
        ([picture, "-o", out, *model, "--backend", "torch"], 4, "not torch: it runs checkpoints"),
    ]:
        found = run(capsys, "upscale", *arguments)
        assert found[0] == code, arguments
        assert words in found[1]
        assert not out.exists()


def test_metadata_and_quality(tmp_path, photo, bundle):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    Image.fromarray(photo[:20, :30]).save(tmp_path / "a.jpg", exif=exif)
    command = ["upscale", str(tmp_path / "a.jpg"), "--model", str(bundle), "-o"]
    sizes = {}
    for name, flags in {
        "kept.jpg": [],
        "bare.jpg": ["--no-keep-metadata"],
        "small.jpg": ["--quality", "30"],
    }.items():
        assert main([*command, str(tmp_path / name), *flags]) == 0
        with Image.open(tmp_path / name) as image:
            assert image.size == (80, 120)
            assert image.getexif().get(0x010F) == (None if name == "bare.jpg" else "Maker")
            assert image.getexif().get(0x0112, 1) == 1
        sizes[name] = (tmp_path / name).stat().st_size
    assert sizes["small.jpg"] < sizes["bare.jpg"] < sizes["kept.jpg"]
    for flags in (["--quality", "0"], ["--quality", "101"], ["--batch", "0"]):
        with pytest.raises(SystemExit):
            main([*command, str(tmp_path / "x.jpg"), *flags])


def test_a_folder_run_goes_on_after_a_bad_file(tmp_path, photo, bundle, capsys):
    for name in ("a.png", "c.png"):
        write_image(tmp_path / "in" / name, photo[:5, :6])
    (tmp_path / "in" / "b.png").write_text("no image")
    command = ["upscale", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--json"]
    command += ["--model", str(bundle)]
    assert main(command) == 1
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert [Path(image["output"]).name for image in report["images"]] == ["a.png", "c.png"]
    assert "b.png is no image" in report["failures"][0]["error"]
    assert printed.err.splitlines()[-2].startswith("failed: ")
    assert "error: 1 of 3 failed" in printed.err
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.png", "c.png"]

    assert main(command) == 2
    assert "--force overwrites, --resume skips" in capsys.readouterr().err
    write_image(tmp_path / "in" / "b.png", photo[:7, :8])
    before = (tmp_path / "out" / "a.png").stat().st_mtime_ns
    assert main([*command, "--resume"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["skipped"] == 2
    assert [Path(image["input"]).name for image in report["images"]] == ["b.png"]
    assert (tmp_path / "out" / "a.png").stat().st_mtime_ns == before
    assert main([*command, "--force"]) == 0
    assert (tmp_path / "out" / "a.png").stat().st_mtime_ns > before


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
    worst = json.loads(capsys.readouterr().out)["parity"]["fp32"]["worst"]
    assert worst["max_abs"] <= 1e-4
    copy = shutil.copytree(bundle, tmp_path / "copy")
    with (copy / "fp32.onnx").open("ab") as file:
        file.write(b"x")
    assert run(capsys, "info", copy)[0] == 2


def test_info_on_what_is_not_known(tmp_path, capsys):
    for name, data in [
        ("a.onnx", b"\xff" * 99),
        ("b.onnx", b""),
        ("a.xyz", b""),
        ("a.safetensors", b"1"),
    ]:
        (tmp_path / name).write_bytes(data)
        code, line = run(capsys, "info", tmp_path / name)
        assert code == 2
        assert name in line
    assert run(capsys, "info", tmp_path / "missing.png")[0] == 2


def test_doctor(capsys):
    assert main(["doctor", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["packages"]["numpy"] == np.__version__
    assert facts["backends"]["onnxruntime"] == facts["backends"]["torch"] == "works"
    assert "onnxruntime-gpu" in facts["backends"]["cuda"]


def start_info(bundle, stdout):
    command = [sys.executable, "-m", "hfdn_deploy", "info", str(bundle), "--json"]
    return subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, text=True)


def test_nobody_reads_the_output(bundle):
    process = start_info(bundle, subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 141


def test_a_full_disk_behind_standard_output(bundle):
    with Path("/dev/full").open("w") as full:
        process = start_info(bundle, full)
    assert process.stderr.read().startswith("error: [Errno 28] No space left")
    assert process.wait() == 2


def test_interruption_leaves_no_output(tmp_path, photo, bundle):
    write_image(tmp_path / "large.png", np.tile(photo, (4, 4, 1)))
    arguments = ["upscale", "large.png", "-o", "out/large.png", "--model", str(bundle)]
    process = subprocess.Popen(
        [sys.executable, "-m", "hfdn_deploy", *arguments],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stderr.readline().startswith("backend:")
    process.send_signal(signal.SIGINT)
    rest = process.communicate()[1]
    assert process.returncode == 130
    assert "interrupted" in rest
    assert "Traceback" not in rest
    assert [p.name for p in tmp_path.rglob("*")] == ["large.png"]


@pytest.mark.parametrize(
    ("package", "number"),
    [
        ("hfdn_deploy", signal.SIGINT),
        ("hfdn_deploy", signal.SIGTERM),
        ("hfdn_deploy", signal.SIGHUP),
        ("export", signal.SIGINT),
        ("training", signal.SIGINT),
        ("benchmarks", signal.SIGINT),
    ],
)
def test_interruption_while_modules_are_imported(tmp_path, package, number):
    (tmp_path / "cv2.py").write_text("import time\nprint('now', flush=True)\ntime.sleep(60)\n")
    process = subprocess.Popen(
        [sys.executable, "-m", package, "--help"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert process.stdout.readline() == "now\n"
    process.send_signal(number)
    assert process.communicate()[1] == "interrupted; nothing half-written is left.\n"
    assert process.returncode == 130


@pytest.mark.parametrize(("owner", "name"), [(backends, "onnxruntime"), (flavour, "tensorrt")])
def test_interruption_while_an_engine_is_imported(monkeypatch, owner, name):
    """An extension module makes an ImportError of it, which would look like a broken engine."""

    class Fragile(types.ModuleType):
        def __getattr__(self, name):
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                raise ImportError("initialization failed") from None
            return super().__getattribute__(name)

    monkeypatch.setitem(sys.modules, name, Fragile(name))
    with pytest.raises(KeyboardInterrupt):
        owner.why_unavailable(name)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_standard_streams(tmp_path, photo, closed):
    """What is opened next would take their place, and what is printed would go there."""
    write_image(tmp_path / "a.png", photo)
    command = f"{sys.executable} -m hfdn_deploy upscale a.png -o b.png --scale 2 --json {closed}"
    run = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0
    assert "Traceback" not in run.stderr
    assert read_image(tmp_path / "b.png").shape == (2 * photo.shape[0], 2 * photo.shape[1], 3)
