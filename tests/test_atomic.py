import os
import shutil
from pathlib import Path

import pytest

from hfdn_deploy import BundleError, HFDNError, InputError, Upscaler
from hfdn_deploy.atomic import replaced
from hfdn_deploy.bundle import pretrained
from hfdn_deploy.cli import describe


def test_success_replaces_file_and_directory(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with replaced(tmp_path / "a.txt") as temporary:
        assert temporary.suffix == ".txt"
        temporary.write_text("new")
        assert (tmp_path / "a.txt").read_text() == "old"
    assert (tmp_path / "a.txt").read_text() == "new"
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "old").touch()
    with replaced(tmp_path / "d") as temporary:
        temporary.mkdir()
        (temporary / "new").touch()
    assert [p.name for p in (tmp_path / "d").iterdir()] == ["new"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt", "d"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_failure_leaves_the_old_and_no_rest(tmp_path, error):
    (tmp_path / "a").write_text("old")
    with pytest.raises(error), replaced(tmp_path / "a") as temporary:
        temporary.write_text("half")
        raise error
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_failure_leaves_no_folder_that_was_made(tmp_path, error):
    (tmp_path / "there").mkdir()
    with pytest.raises(error), replaced(tmp_path / "there" / "a" / "b" / "c.txt") as temporary:
        temporary.write_text("half")
        raise error
    with pytest.raises(error), replaced(tmp_path / "x" / "y" / "z.txt"):
        (tmp_path / "x" / "other").touch()
        raise error
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "there",
        "x",
        "x/other",
    ]


def test_a_full_disk_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="No space left"), replaced(tmp_path / "a") as path:
        path.write_text("half")
        raise OSError(28, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "a", tmp_path / "file" / "a" / "b"):
        with pytest.raises(InputError, match=r"cannot be written"), replaced(path) as temporary:
            temporary.touch()
    with pytest.raises(InputError, match="name too long"), replaced(tmp_path / ("a" * 300)) as path:
        path.touch()
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_missing_folders_are_made(tmp_path):
    with replaced(tmp_path / "a" / "b" / "c.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "a" / "b" / "c.txt").read_text() == "new"


def test_an_interrupted_swap_of_directories_brings_the_old_one_back(tmp_path, monkeypatch):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "old").touch()

    def interrupt(self, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt), replaced(tmp_path / "d") as temporary:
        temporary.mkdir()
    assert [p.name for p in tmp_path.iterdir()] == ["d"]
    assert [p.name for p in (tmp_path / "d").iterdir()] == ["old"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
@pytest.mark.parametrize("name", ["a.safetensors", "a.png", "a.engine", "x4/manifest.json", "x4"])
def test_pipes_are_not_waited_for(tmp_path, name):
    path = tmp_path / name
    if path.parent != tmp_path:
        shutil.copytree(pretrained(4).path, path.parent)
        path.unlink()
    os.mkfifo(path)
    for use in (Upscaler.load, describe):
        with pytest.raises(HFDNError):
            use(path.parent if path.parent != tmp_path else path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_a_pipe_for_a_graph_is_not_waited_for(tmp_path):
    bundle = shutil.copytree(pretrained(4).path, tmp_path / "x4")
    (bundle / "fp32.onnx").unlink()
    os.mkfifo(bundle / "fp32.onnx")
    with pytest.raises(BundleError, match=r"fp32\.onnx cannot be read: it is no regular file"):
        Upscaler.load(bundle)
