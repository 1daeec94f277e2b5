import os
import shutil
from pathlib import Path

import pytest

from hfdn_deploy import BundleError, HFDNError, InputError, Upscaler
from hfdn_deploy.atomic import remove_abandoned, replaced
from hfdn_deploy.bundle import pretrained
from hfdn_deploy.cli import describe
from tests.helpers.disks import abandon, room_for, writing


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


def test_what_appears_meanwhile_is_kept(tmp_path, monkeypatch):
    """Tested with hard links, which cannot replace a file, and on a disk without hard links."""
    path = tmp_path / "a.txt"
    for links in (True, False):
        if not links:
            monkeypatch.setattr(os, "link", refuse)
        with replaced(path, overwrite=False) as temporary:
            temporary.write_text("mine")
        assert path.read_text() == "mine"
        refused = pytest.raises(InputError, match=r"a\.txt already exists.*--force overwrites it")
        with refused, replaced(path, overwrite=False):
            raise AssertionError("the block must not run")
        path.unlink()
        with refused, replaced(path, overwrite=False) as temporary:
            temporary.write_text("mine")
            path.write_text("theirs")
        assert path.read_text() == "theirs"
        assert list(tmp_path.iterdir()) == [path]
        path.unlink()


def refuse(*_, **__):
    raise PermissionError(1, "Operation not permitted")


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    """The same holds for each file of a directory, but not for files above the size limit."""
    synced = []

    def fail(descriptor):
        synced.append(os.fstat(descriptor).st_size)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    for folder in (False, True):
        refused = pytest.raises(InputError, match="cannot be written: Input/output error")
        with refused, replaced(tmp_path / "a") as temporary:
            if folder:
                temporary.mkdir()
            (temporary / "b" if folder else temporary).write_bytes(bytes(7))
        assert not list(tmp_path.iterdir())
    assert synced == [7, 7]
    with replaced(tmp_path / "a") as temporary:
        temporary.touch()
        os.truncate(temporary, 2**26 + 1)
    assert (tmp_path / "a").stat().st_size == 2**26 + 1


def test_only_what_nobody_writes_any_more_is_removed(tmp_path):
    abandon(tmp_path / "out" / "killed.bin", b"half")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / ".hfdn-lock").touch()
    (tmp_path / "elsewhere" / "precious").touch()
    (tmp_path / "out" / ".hfdn-link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "out" / ".hfdn-file").touch()
    with replaced(tmp_path / "out" / "a.bin") as temporary:
        temporary.write_bytes(b"mine")
        with writing(tmp_path / "out" / "b.bin", b"theirs"):
            remove_abandoned(tmp_path / "out")
            left = [path.name for path in (tmp_path / "out").glob(".hfdn-*/*.bin")]
            assert sorted(left) == ["a.bin", "b.bin"]
    remove_abandoned(tmp_path / "out")
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left == {"a.bin", ".hfdn-link", ".hfdn-file"}
    assert (tmp_path / "elsewhere" / "precious").exists()


def test_what_somebody_else_left_is_not_touched(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    abandon(tmp_path / "a.bin", b"half")
    (left,) = tmp_path.iterdir()
    os.chown(left, 65534, -1)
    remove_abandoned(tmp_path)
    assert (left / "a.bin").read_bytes() == b"half"


def test_of_a_directory_every_file_is_whole_or_there_is_none(tmp_path):
    sizes = {"a": 9000, "b": 20_000}
    for limit in (0, 8999, 9000, 19_999):
        refused = pytest.raises(InputError, match="d cannot be written: File too large")
        with refused, room_for(limit), replaced(tmp_path / "d") as temporary:
            temporary.mkdir()
            for name, size in sizes.items():
                (temporary / name).write_bytes(bytes(size))
        assert not list(tmp_path.iterdir())
    with room_for(20_000), replaced(tmp_path / "d") as temporary:
        temporary.mkdir()
        for name, size in sizes.items():
            (temporary / name).write_bytes(bytes(size))
    assert {path.name: path.stat().st_size for path in (tmp_path / "d").iterdir()} == sizes


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
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


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_for_a_graph_is_not_waited_for(tmp_path):
    bundle = shutil.copytree(pretrained(4).path, tmp_path / "x4")
    (bundle / "fp32.onnx").unlink()
    os.mkfifo(bundle / "fp32.onnx")
    with pytest.raises(BundleError, match=r"fp32\.onnx cannot be read: it is not a regular file"):
        Upscaler.load(bundle)
