import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hfdn_deploy import Upscaler
from hfdn_deploy.cli import main
from hfdn_deploy.images import read_image, write_image
from tests.helpers.commands import refused
from tests.helpers.disks import names_in
from tests.helpers.images import raw_png


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
    assert names_in(tmp_path / "out") == ["a.png", "b.tif", "c1.png"]
    assert read_image(tmp_path / "out" / "b.tif").shape == (20, 24, 3)


def test_bad_inputs_are_one_sentence(picture, bundle, checkpoint, tmp_path, capsys):
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "short.png").write_bytes(raw_png((8, 8), (8, 0, 0), b"\0" + bytes([9] * 8)))
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    out = tmp_path / "out.png"
    model = ["--model", bundle]
    for arguments, code, words in [
        ([tmp_path / "missing.png", "-o", out, *model], 2, "missing.png cannot be read"),
        ([tmp_path / "text.png", "-o", out, *model], 2, "is not an image in a known format"),
        ([tmp_path / "short.png", "-o", out, *model], 2, "short.png is truncated or damaged"),
        ([tmp_path / "empty", "-o", out, *model], 2, "no image in"),
        ([tmp_path / "*.xyz", "-o", out, *model], 2, "no image in"),
        ([picture, picture, "-o", out, *model], 2, "one file for 2 images"),
        ([picture, picture, "-o", tmp_path / "d", *model], 2, "would both become"),
        ([picture, "-o", picture, *model], 2, "overwrite an input"),
        ([picture, "-o", tmp_path, *model, "--force"], 2, "overwrite an input"),
        ([picture, "-o", tmp_path / "file" / "a.png", *model], 2, "file is not a folder; name"),
        ([picture, "-o", tmp_path / "out.xcf", *model], 2, "unknown image format '.xcf'"),
        ([picture, "-o", tmp_path / ("a" * 300 + ".png"), *model], 2, "too long"),
        ([picture, "-o", out, "--model", tmp_path], 2, "is no bundle"),
        ([picture, "-o", out, "--scale", 17], 2, "reach ×16 at most, not ×17"),
        ([picture, "-o", out, *model, "--precision", "int8"], 2, "no int8-cpu graph"),
        ([picture, "-o", out, *model, "--backend", "cuda"], 4, "onnxruntime-gpu"),
        ([picture, "-o", out, *model, "--backend", "torch"], 4, "not torch: it runs checkpoints"),
    ]:
        found = refused(capsys, "upscale", *arguments)
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
    assert "b.png is not an image" in report["failures"][0]["error"]
    assert printed.err.splitlines()[-2].startswith("failed: ")
    assert "error: 1 of 3 failed" in printed.err
    assert names_in(tmp_path / "out") == ["a.png", "c.png"]

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


def test_the_old_name_of_cluster(picture, bundle, tmp_path, capsys, caplog):
    command = ["upscale", str(picture), "-o", str(tmp_path / "out.png"), "--model", str(bundle)]
    assert main([*command, "--engine", "ray", "--batch", "2"]) == 2
    assert "--batch is for --cluster local" in capsys.readouterr().err
    assert main([*command, "--engine", "local"]) == 0
    assert main([*command, "--engine", "local", "--cluster", "ray"]) == 2
    assert "give --cluster alone" in capsys.readouterr().err
    for place in ("ray", "local"):
        assert f"--engine {place} is now --cluster {place}" in caplog.text
    with pytest.raises(SystemExit):
        main(["upscale", "--help"])
    assert "--engine" not in capsys.readouterr().out


def test_what_automatic_precision_chose_is_remembered(tmp_path, photo, capsys):
    (tmp_path / "in").mkdir()
    write_image(tmp_path / "in" / "a.png", photo[:8, :9])
    command = ["upscale", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--scale", "2"]
    command += ["--backend", "onnxruntime", "--resume", "--json", "--precision"]

    def run(precision):
        assert main([*command, precision]) == 0
        return json.loads(capsys.readouterr().out)

    report = run("auto")
    with Upscaler.load(2, "onnxruntime", "auto") as up:
        chosen = up.backend.precision
        assert (report["precision"], report["choice"]) == (chosen, up.choice)
        assert np.array_equal(read_image(tmp_path / "out" / "a.png"), up(photo[:8, :9]))
    for again in ("auto", chosen):
        assert run(again)["skipped"] == 1
    (other,) = {"fp32", "int8"} - {chosen}
    assert main([*command, other]) == 2
    assert f"made with precision {chosen}, not {other}" in capsys.readouterr().err
