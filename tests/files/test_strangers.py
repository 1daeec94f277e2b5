"""Files of other kinds among images, and the names of outputs in a folder."""

import json
import logging
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hfdn_deploy import InputError
from hfdn_deploy.cli import main
from hfdn_deploy.files import Naming, plan_jobs
from hfdn_deploy.images import read_header, write_image
from tests.helpers.commands import misused
from tests.helpers.disks import names_in

PIXELS = np.full((4, 6, 3), 90, np.uint8)


@pytest.fixture
def photos(tmp_path):
    """A folder of two images, with files that other programs put beside them."""
    folder = tmp_path / "photos"
    write_image(folder / "a.png", PIXELS)
    write_image(folder / "b.jpg", PIXELS)
    (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (folder / "notes.txt").write_text("BMW, MM, II: how images begin")
    (folder / "old.mpg").write_bytes(b"\0\0\x01\xba")
    return folder


@pytest.mark.parametrize("quoted", [False, True], ids=["by the shell", "quoted"])
def test_strangers_are_reported_and_the_images_done(photos, bundle, capsys, quoted):
    names = [str(photos / "*")] if quoted else sorted(map(str, photos.iterdir()))
    out = photos.parent / "out"
    assert main(["upscale", *names, "-o", str(out), "--model", str(bundle), "--json"]) == 1
    printed = capsys.readouterr()
    assert "error: 3 of 5 failed, see above; the others are written" in printed.err
    failures = {
        Path(one["input"]).name: one["error"] for one in json.loads(printed.out)["failures"]
    }
    assert set(failures) == {"Thumbs.db", "notes.txt", "old.mpg"}
    for name, why in (
        ("Thumbs.db", "is not an image or video of a known format"),
        ("notes.txt", "is not an image or video of a known format"),
        ("old.mpg", "cannot be decoded" if find_spec("av") else "needs PyAV"),
    ):
        assert f"{photos / name} {why}" in failures[name]
    assert names_in(out) == ["a.png", "b.jpg"]


def test_a_video_without_pyav_stops_no_image(photos, bundle, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    (photos / "Thumbs.db").unlink()
    (photos / "notes.txt").unlink()
    command = ["upscale", "--model", str(bundle), "-o", str(photos.parent / "out")]
    assert main([*command, str(photos / "*")]) == 1
    why = f"{photos}/old.mpg needs PyAV; pip install 'hfdn-deploy[video]'."
    assert f"failed: {why}\nerror: 1 of 3 failed" in capsys.readouterr().err
    assert main([*command, str(photos / "old.mpg")]) == 4
    assert capsys.readouterr().err == f"error: {why}\n"


def test_a_folder_is_done_without_them(photos, bundle, capsys):
    out = f"{photos.parent}/results_v1.5/"
    assert main(["upscale", str(photos), "-o", out, "--model", str(bundle)]) == 0
    assert capsys.readouterr().out == f"{out}: 2 files\n"
    assert names_in(Path(out)) == ["a.png", "b.jpg"]


def test_the_content_decides(tmp_path, bundle, caplog, capsys):
    """A JPEG is recognized under any name; the output has a format that fits its suffix."""
    Image.fromarray(PIXELS).save(tmp_path / "t.jpg")
    data = (tmp_path / "t.jpg").read_bytes()
    names = ["photo.png", "c.jpg_large", "e.jpe", "f.jfif", "without", "v1.5", "g.txt"]
    for name in names:
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(data)
    inputs = [str(tmp_path / "in" / name) for name in names]
    assert main(["upscale", *inputs, "-o", str(tmp_path / "out"), "--model", str(bundle)]) == 0
    formats = {path.name: read_header(path).format for path in (tmp_path / "out").glob("[!.]*")}
    assert formats == {
        "photo.png": "PNG", "c.jpg": "JPEG", "e.jpe": "JPEG", "f.jfif": "JPEG",
        "without.jpg": "JPEG", "v1.5.jpg": "JPEG", "g.jpg": "JPEG",
    }  # fmt: skip
    assert (
        f"{tmp_path}/in/c.jpg_large becomes c.jpg because .jpg_large cannot be written\n"
        in caplog.text
    )
    assert main(["upscale", *inputs[1:2], "-o", str(tmp_path / "x.png"), "--scale", "2"]) == 0


def test_one_output_for_two_inputs_that_change_their_suffix(tmp_path):
    write_image(tmp_path / "c.jpg", PIXELS)
    (tmp_path / "c.jpg_large").write_bytes((tmp_path / "c.jpg").read_bytes())
    with pytest.raises(InputError, match=r"c\.jpg and .*c\.jpg_large would both become out/c\.jpg"):
        plan_jobs([str(tmp_path)], "out")


@pytest.mark.parametrize("suffix", [".nef", ".DNG"])
def test_a_cameras_raw_file_is_no_tiff(tmp_path, suffix):
    """A TIFF reader would find only its thumbnail."""
    write_image(tmp_path / "a.tif", PIXELS)
    raw = (tmp_path / "a.tif").rename(tmp_path / f"a{suffix}")
    with pytest.raises(InputError, match="is a camera's raw file; convert it first"):
        plan_jobs([str(raw)], "out.tif")
    with pytest.raises(InputError, match="no image in"):
        plan_jobs([str(tmp_path)], "out")


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """The folder `in` with images at three depths, a hidden folder, and a link to its top."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "x/b.jpg", "x/y/c.tif", ".trash/d.png"):
        write_image(tmp_path / "in" / name, PIXELS)
    (tmp_path / "in" / "z").mkdir()
    (tmp_path / "in" / "x" / "up").symlink_to(tmp_path / "in")
    return tmp_path / "in"


def test_recursion_keeps_the_tree(tree, bundle, caplog):
    caplog.set_level(logging.INFO)
    command = ["upscale", "in", "-o", "in/out", "--model", str(bundle), "-r", "--suffix", "_x4"]
    assert main(command) == 0
    written = sorted(str(path) for path in Path("in/out").rglob("*.*") if path.is_file())
    names = ["a_x4.png", "x/b_x4.jpg", "x/y/c_x4.tif"]
    folders = ["in/out/.hfdn.jsonl", "in/out/x/.hfdn.jsonl", "in/out/x/y/.hfdn.jsonl"]
    assert written == sorted([*folders, *(f"in/out/{name}" for name in names)])
    assert "in: left out: 1 linked folder" in caplog.text
    # Outputs are not taken for inputs.
    assert main([*command, "--resume"]) == 0
    assert "3 of 3 are done already" in caplog.text


@pytest.mark.parametrize(
    ("inputs", "targets"),
    [
        (["in"], ["a.png", "x/b.jpg", "x/y/c.tif"]),
        (["in/x/"], ["b.jpg", "y/c.tif"]),
        (["in/*"], ["a.png", "x/b.jpg", "x/y/c.tif"]),  # as a quoted glob
        (["in/a.png", "in/x", "in/out"], ["a.png", "x/b.jpg", "x/y/c.tif"]),  # by the shell
        (["in/x/*", "in/x/y/**"], ["b.jpg", "c.tif", "y/c.tif"]),
    ],
)
def test_names_below_the_output(tree, inputs, targets):
    write_image(tree / "out" / "old.png", PIXELS)
    jobs, _ = plan_jobs(inputs, "in/out", Naming(recursive=True))
    assert sorted(str(job.target) for job in jobs) == [f"in/out/{target}" for target in targets]


def planned(inputs, output, **naming):
    jobs, unusable = plan_jobs(inputs, output, Naming(**naming))
    assert not unusable
    return {str(job.source): str(job.target) for job in jobs}


@pytest.mark.parametrize(
    ("naming", "targets"),
    [
        ({"format": ".webp"}, ["a.webp", "b.webp", "v.mp4"]),
        ({"suffix": "_x4"}, ["a_x4.png", "b_x4.jpg", "v_x4.mp4"]),
        ({"format": ".jpg", "suffix": "@2x"}, ["a@2x.jpg", "b@2x.jpg", "v@2x.mp4"]),
    ],
)
def test_formats_and_suffixes_of_a_folders_outputs(photos, naming, targets):
    (photos / "v.mp4").touch()
    inputs = [str(photos / name) for name in ("a.png", "b.jpg", "v.mp4")]
    found = planned(inputs, "out", **naming)
    assert [Path(target).name for target in found.values()] == targets


def test_outputs_beside_their_inputs_are_not_upscaled_again(photos, bundle, caplog):
    caplog.set_level(logging.INFO)
    command = ["upscale", str(photos), "-o", str(photos), "--model", str(bundle), "--suffix", "_x4"]
    assert main(command) == 0
    write_image(photos / "c_x4.png", PIXELS)  # from another program
    assert main([*command, "--resume"]) == 0
    assert f"{photos}: left out 2 outputs of earlier runs" in caplog.text
    assert "2 of 3 are done already" in caplog.text
    assert [name for name in names_in(photos) if "x4" in name] == [
        "a_x4.png", "b_x4.jpg", "c_x4.png", "c_x4_x4.png",
    ]  # fmt: skip


def test_options_that_do_not_fit_are_refused(photos, capsys):
    one = str(photos / "a.png")
    with pytest.raises(InputError, match=r"x\.png is not of format \.jpg; give only one of them"):
        plan_jobs([one], "x.png", Naming(format=".jpg"))
    assert planned([one], "x.jpeg", format=".jpg") == {one: "x.jpeg"}
    with pytest.raises(InputError, match=r"--suffix is for outputs in a folder, and x\.png"):
        plan_jobs([one], "x.png", Naming(suffix="_x4"))
    command = ["upscale", one, "-o", "out"]
    assert "'xyz' is not one of png, apng, jpg, " in misused(capsys, [*command, "--format", "xyz"])
    assert "'../a' has a path separator" in misused(capsys, [*command, "--suffix", "../a"])
