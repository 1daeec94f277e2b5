"""The files that names on a command line refer to: every name is accounted for."""

import json
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from hfdn_deploy import InputError
from hfdn_deploy.cli import main
from hfdn_deploy.files import plan_jobs
from hfdn_deploy.images import write_image
from tests.helpers.commands import refused
from tests.helpers.disks import names_in

SCALE = ("--scale", "2", "--precision", "int8")


def image(path):
    write_image(path, np.full((4, 6, 3), 90, np.uint8))
    return path


@pytest.mark.parametrize("output", ["there", "there/", "there/out.png", "there/a/b.png", "pipe"])
def test_a_folder_that_is_a_file_is_refused_at_once(tmp_path, output):
    source = image(tmp_path / "a.png")
    (tmp_path / "there").write_text("mine")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match=r"(there|pipe) is not a folder; name a folder, or a file"):
        plan_jobs([str(source)], f"{tmp_path}/{output}")


def test_a_pipe_is_not_called_unknown(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe cannot be read: it is not a regular file"):
        plan_jobs([str(tmp_path / "pipe")], str(tmp_path / "out"))


@contextmanager
def as_somebody_without_rights():
    """Run the block as a user other than root, which may read every file."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def locked():
    """A folder that only root may enter, in a folder that everyone may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        place = Path(folder) / "locked"
        image(place / "a.png")
        place.chmod(0)
        yield place
        place.chmod(0o700)


@pytest.fixture
def inputs(tmp_path):
    """Inputs without an image, each with words of its error, around an input with an image."""
    image(tmp_path / "good.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").touch()
    return {
        tmp_path / "*.xyz": "no file matches it; name files or folders",
        tmp_path / "empty": "no image in",
        tmp_path / "notes.txt": "notes.txt is not an image or video of a known format; leave it",
        tmp_path / "missing.png": "missing.png cannot be read: No such file",
        tmp_path / "good.png": None,
    }


def test_each_input_that_gives_no_image_is_a_failure(inputs, tmp_path, capsys):
    out = tmp_path / "out"
    code = main(["upscale", *map(str, inputs), "-o", str(out), *SCALE, "--json"])
    printed = capsys.readouterr()
    assert code == 1
    assert "error: 4 of 5 failed, see above; the others are written" in printed.err
    report = json.loads(printed.out)
    failures = {failure["input"]: failure["error"] for failure in report["failures"]}
    expected = {str(name): words for name, words in inputs.items() if words}
    assert failures.keys() == expected.keys()
    for name, words in expected.items():
        assert words in failures[name]
        assert f"failed: {failures[name]}\n" in printed.err
    assert names_in(out) == ["good.png"]


def test_a_cluster_plans_with_the_same_failures(inputs, tmp_path):
    pytest.importorskip("pyarrow", exc_type=ModuleNotFoundError)
    from hfdn_deploy.cluster import plan

    planned = plan(list(map(str, inputs)), str(tmp_path / "out"))
    assert [job.source.name for job in planned.jobs] == ["missing.png", "good.png"]
    found = {one.name: str(one.error) for one in planned.unusable}
    assert set(found) == {str(tmp_path / name) for name in ("*.xyz", "empty", "notes.txt")}
    for name, error in found.items():
        assert inputs[Path(name)] in error


def test_where_all_fail_no_model_is_opened(inputs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("hfdn_deploy.upscaler.Upscaler.open", None)
    names = [str(tmp_path / name) for name in ("*.xyz", "empty")]
    assert main(["upscale", *names, "-o", str(tmp_path / "out"), *SCALE]) == 1
    assert "error: 2 of 2 failed, see above.\n" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_read(locked, tmp_path):
    image(tmp_path / "good.png")
    with as_somebody_without_rights():
        with pytest.raises(InputError, match="locked cannot be read: Permission denied; check"):
            plan_jobs([str(locked)], "out")
        _, unusable = plan_jobs([str(locked / "a.png"), str(locked), "x*"], "out")
    reasons = [str(one.error).replace(str(locked), "LOCKED") for one in unusable]
    assert "LOCKED/a.png cannot be read: Permission denied" in reasons[0]
    assert "LOCKED cannot be read: Permission denied" in reasons[1]
    assert "no file matches it" in reasons[2]


@pytest.mark.parametrize("cluster", ["local", "ray"])
@pytest.mark.parametrize("where", ["input", "output"])
def test_an_empty_name_is_refused(tmp_path, capsys, monkeypatch, where, cluster):
    if cluster == "ray":
        pytest.importorskip("pyarrow", exc_type=ModuleNotFoundError)
    monkeypatch.chdir(tmp_path)
    image(tmp_path / "a.png")
    names = ["", "-o", "out"] if where == "input" else ["a.png", "-o", ""]
    code, error = refused(capsys, "upscale", *names, *SCALE, "--cluster", cluster)
    assert code == 2
    assert "name" in error
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_what_a_folder_holds_besides_images_is_counted(tmp_path, caplog):
    image(tmp_path / "t.png")
    data = (tmp_path / "t.png").read_bytes()
    for name in ("c.JPE", "d.jpg_large", "without", ".hidden", "e.nef"):
        (tmp_path / name).write_bytes(data)
    for name in (
        "b.jfif",
        "v.mp4",
        "w.MKV",
        ".hidden.txt",
        "none",
        *(f"{i}.txt" for i in range(6)),
    ):
        (tmp_path / name).touch()
    (tmp_path / "f.png").symlink_to("nowhere")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "linked").symlink_to("folder.png")
    os.mkfifo(tmp_path / "pipe.png")
    jobs, unusable = plan_jobs([str(tmp_path)], "out")
    names = [(job.source.name, job.target.name) for job in jobs]
    renamed = [("d.jpg_large", "d.png"), ("t.png", "t.png"), ("without", "without.png")]
    assert names == [("b.jfif", "b.jfif"), ("c.JPE", "c.JPE"), *renamed]
    assert not unusable
    (left, *others) = (record.getMessage() for record in caplog.records)
    head, _, counts = left.partition(": left out: ")
    assert head == str(tmp_path)
    assert set(counts.split(", ")) == {
        "6 .txt", "2 videos (name them)", "1 folder (-r includes them)", "1 linked folder",
        "1 broken link", "1 special file", "1 .nef", "1 without a suffix",
    }  # fmt: skip
    assert others == [
        f"{tmp_path}/d.jpg_large becomes d.png because .jpg_large cannot be written",
        f"{tmp_path}/without becomes without.png because it has no suffix",
    ]


def test_a_glob_takes_files_and_leaves_folders(tmp_path):
    image(tmp_path / "in" / "a.png")
    image(tmp_path / "in" / "below" / "b.png")
    jobs, _ = plan_jobs([str(tmp_path / "in" / "**")], "out")
    assert [job.source.name for job in jobs] == ["a.png", "b.png"]


def test_what_is_a_folder_and_what_a_file(tmp_path):
    for name in ("a.png", "b.png"):
        image(tmp_path / "in" / name)
    (tmp_path / "there.v2").mkdir()
    one, folder, all_ = (str(tmp_path / name) for name in ("in/a.png", "in", "in/*"))
    for given, output, target in [
        ([one], "v1.5/", "v1.5/a.png"),
        ([one], "x.png/", "x.png/a.png"),
        ([one], "out", "out/a.png"),
        ([one], str(tmp_path / "there.v2"), str(tmp_path / "there.v2" / "a.png")),
        ([one], "v1.5", "v1.5/a.png"),
        ([one], "x.png", "x.png"),
        ([folder], "v1.5", "v1.5/a.png"),
        ([all_], "v1.5", "v1.5/a.png"),
        ([one, str(tmp_path / "in" / "b.png")], "v1.5", "v1.5/a.png"),
    ]:
        assert plan_jobs(given, output)[0][0].target == Path(target), (given, output)
    for given, output, words in [
        ([one], "v1.xyz", "unknown image format '.xyz'"),
        ([folder], "x.png", "one file for 2 images"),
        ([one], "-", "the output is '-'"),
    ]:
        with pytest.raises(InputError, match=words):
            plan_jobs(given, output)
