"""The cache of graphs compiled by OpenVINO, which only accepts this user's own files."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from onnx import helper

from hfdn_deploy.backends import compiled
from hfdn_deploy.backends.openvino import computed_in
from hfdn_deploy.backends.quiet_openvino import import_openvino
from hfdn_deploy.bundle import pretrained
from hfdn_deploy.cli import main
from hfdn_deploy.engines import cache_folder
from hfdn_deploy.graph import tiny_model
from tests.helpers.disks import abandon, room_for

SETTINGS = {"INFERENCE_PRECISION_HINT": "f32"}


def add(number):
    """Return a graph that adds a number and has constants, so that its blob is not tiny."""
    value = (np.float32, [1])
    constants = {"number": np.float32([number]), "none": np.zeros(5000, np.float32)}
    nodes = [
        helper.make_node("ReduceSum", ["none"], ["zero"], keepdims=0),
        helper.make_node("Add", ["x", "number"], ["sum"]),
        helper.make_node("Add", ["sum", "zero"], ["y"]),
    ]
    model = tiny_model(nodes, {"x": value}, {"y": value}, constants)
    return bytes(model.SerializeToString())


class Counting:
    """OpenVINO's core with a counter of compilations."""

    def __init__(self):
        self.compiles = 0
        self.core = import_openvino().Core()

    def __getattr__(self, name):
        return getattr(self.core, name)

    def compile_model(self, *arguments):
        self.compiles += 1
        return self.core.compile_model(*arguments)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HFDN_CACHE", str(tmp_path / "cache"))
    return cache_folder() / "openvino"


@pytest.fixture
def core():
    return Counting()


def check(core, number=1, **settings):
    """Load and check the graph of `add`, and return the number of compilations so far."""
    graph = compiled.load_compiled(core, add(number), SETTINGS | settings)
    assert graph(np.float32([2]))[0] == 2 + number
    return core.compiles


def kept(folder):
    return sorted(path.name for path in folder.glob("*.blob"))


def test_a_graph_is_compiled_once(folder, core):
    assert [check(core) for _ in range(3)] == [1, 1, 1]
    assert [check(core, INFERENCE_NUM_THREADS=1) for _ in range(2)] == [2, 2]
    assert [check(core, 3) for _ in range(2)] == [3, 3]
    assert len(kept(folder)) == 3
    assert folder.stat().st_mode & 0o777 == 0o700


def test_what_is_kept_computes_the_same_with_the_same_settings(folder, core, photo):
    lr = np.ascontiguousarray(photo[None, None, :20, :24, 0] / np.float32(255))
    settings = SETTINGS | {"INFERENCE_NUM_THREADS": 1}
    kinds, outputs = [], []
    for _ in range(2):
        data = pretrained(2).read_model("int8-openvino")
        graph = compiled.load_compiled(core, data, settings)
        assert graph.get_property("INFERENCE_NUM_THREADS") == 1
        kinds.append(computed_in(graph))
        outputs.append(graph(lr)[0])
    assert core.compiles == 1
    assert kinds[0] == kinds[1]
    assert np.array_equal(*outputs)


def flipped(blob):
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.write_bytes(data)


def given_away(blob):
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    os.chown(blob, 12345, 12345)


def linked(blob):
    blob.rename(blob.with_name("elsewhere"))
    blob.symlink_to("elsewhere")


def of_another_build(blob):
    data = blob.read_bytes()[32:]
    if b";isa=" not in data:
        pytest.skip("OpenVINO below 2026.4 does not write its build into what it exports")
    data = data.replace(b";isa=", b";isa=X", 1)
    blob.write_bytes(hashlib.sha256(data).digest() + data)


@pytest.mark.parametrize(
    "damage",
    [
        flipped,
        given_away,
        linked,
        of_another_build,
        lambda blob: blob.write_bytes(blob.read_bytes()[:-1]),
        lambda blob: blob.write_bytes(b""),
        lambda blob: blob.unlink() or blob.mkdir(),
    ],
)
def test_what_is_not_as_it_was_kept_is_compiled_anew(folder, core, damage):
    check(core)
    (blob,) = folder.glob("*.blob")
    damage(blob)
    assert check(core) == 2
    if not blob.is_dir():  # a file cannot replace a directory
        assert check(core) == 2


def test_a_cache_that_others_can_write_is_not_used(folder, core, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    check(core)
    folder.chmod(0o777)
    assert [check(core) for _ in range(2)] == [2, 3]
    folder.chmod(0o700)
    (tmp_path / "cache").chmod(0o777)
    assert [check(core) for _ in range(2)] == [4, 4]
    assert (tmp_path / "home" / "hfdn-deploy" / "engines" / "openvino").is_dir()
    (tmp_path / "home" / "hfdn-deploy").chmod(0o777)
    assert [check(core) for _ in range(2)] == [5, 6]


def test_a_disk_that_is_full_or_read_only_is_no_failure(folder, core, tmp_path, monkeypatch):
    with room_for(1000):
        assert check(core) == 1
    assert list(folder.iterdir()) == []
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "cache", "/proc/cache", "~nobody-of-that-name/x"):
        monkeypatch.setenv("HFDN_CACHE", str(place))
        check(core)
    assert core.compiles == 4


def test_what_was_used_longest_ago_goes_first(folder, core, monkeypatch):
    check(core, 1)
    (first,) = folder.glob("*.blob")
    check(core, 2)
    abandon(folder / "x.blob", b"half")
    for age, blob in enumerate(sorted(folder.glob("*.blob"), key=lambda blob: blob == first)):
        os.utime(blob, (1000 - age, 1000 - age))  # the first is the oldest
    assert check(core, 1) == 2  # and used again
    monkeypatch.setattr(compiled, "_MOST", int(2.5 * first.stat().st_size))
    check(core, 3)
    assert len(kept(folder)) == 2
    assert not list(folder.glob(".hfdn-*"))
    assert [check(core, number) for number in (1, 3, 2)] == [3, 3, 4]


def test_several_at_once(folder, core):
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda number: check(core, number % 2), range(12)))
    assert len(kept(folder)) == 2
    before = core.compiles
    assert [check(core, number) for number in (0, 1)] == [before, before]


def test_the_cache_lists_and_clears_them(folder, core, capsys):
    check(core)
    (blob,) = folder.glob("*.blob")
    size = f"{blob.stat().st_size / 2**20:.1f} MiB"
    assert main(["cache", "list"]) == 0
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith(f"{folder}: graphs compiled by OpenVINO, for the next start; {size}")
    assert main(["cache", "clear"]) == 0
    assert not folder.exists()
