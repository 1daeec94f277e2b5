"""Processes of `hfdn build`: single builds, no partial files, stale engines."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from hfdn_deploy.backends import why_unavailable
from hfdn_deploy.bundle import Bundle, pretrained
from hfdn_deploy.cuda import Device
from hfdn_deploy.engines import (
    FLAVOURS,
    BuildSpec,
    cached_engine,
    copy_engine,
    open_engine,
    presets,
    read_sidecar,
    resolve_targets,
    sidecar_path,
)
from hfdn_deploy.engines import cache as engine_cache
from hfdn_deploy.errors import BackendError, GateError, InputError
from tests.helpers.disks import abandon, room_for

# A build of seconds, which can be interrupted halfway.
LONG = [
    *("x3", "--precision", "int8", "--profile", "photo", "720p", "1080p", "tile"),
    *("--target", "sm75", "sm80", "sm86", "sm89", "sm120"),
]

pytestmark = pytest.mark.usefixtures("trt")


def start(*arguments):
    command = [sys.executable, "-m", "hfdn_deploy", "build", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("did not come")


def spec(**options):
    return BuildSpec("rtx", (presets(4)["photo"],), ("sm89",), **options)


def test_two_processes_build_once(cache, tmp_path):
    processes = [start(*LONG, "--json", "-o", tmp_path / f"{i}.engine") for i in range(2)]
    answers = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], answers
    sidecars = [read_sidecar(tmp_path / f"{i}.engine") for i in range(2)]
    # Only the time and duration of the builds may differ.
    assert sidecars[0] == sidecars[1]
    assert len(list(cache.glob("*/engine/*.engine"))) == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_build_leaves_nothing_and_the_next_one_works(cache, tmp_path, number):
    output = tmp_path / "x.engine"
    process = start(*LONG, "-o", output)
    wait_for(lambda: list(cache.glob("*/lock")))
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    if number == signal.SIGINT:
        assert (process.returncode, errors) == (130, "interrupted; nothing half-written is left.\n")
    else:
        assert process.returncode == -number
    assert not output.exists()
    assert not list(cache.glob("*/engine"))
    # A build that is killed during a write would leave these.
    (folder,) = cache.glob("*/")
    abandon(folder / "x.engine", b"half")
    process = start(*LONG, "-o", output)
    assert process.wait(timeout=120) == 0
    assert read_sidecar(output).bytes == output.stat().st_size
    assert not list(folder.glob(".*"))


def test_the_key_holds_what_the_engine_depends_on(cache):
    bundle = pretrained(4)
    first = cached_engine(bundle, "fp16", spec())
    before = first.stat().st_mtime_ns
    assert cached_engine(bundle, "fp16", spec()) == first
    assert first.stat().st_mtime_ns == before
    others = {
        cached_engine(bundle, "fp32", spec()).parent,
        cached_engine(bundle, "fp16", spec(optimization_level=1)).parent,
        cached_engine(pretrained(2), "fp16", spec()).parent,
        first.parent,
    }
    assert len(others) == 4


def test_a_damaged_engine_in_the_cache_is_built_anew(caplog):
    engine = cached_engine(pretrained(4), "fp16", spec())
    good = read_sidecar(engine)
    data = bytearray(engine.read_bytes())
    data[1000] ^= 1
    engine.write_bytes(data)
    again = cached_engine(pretrained(4), "fp16", spec())
    assert "It is built again" in caplog.text
    assert read_sidecar(again).bytes == again.stat().st_size == good.bytes


def test_the_cache_knows_its_own():
    engine = cached_engine(pretrained(4), "fp16", spec())
    assert engine_cache.holds(read_sidecar(engine).sha256)
    assert not engine_cache.holds("0" * 64)


def test_a_file_of_somebody_else_in_the_cache_is_not_ones_own():
    if os.getuid() != 0:
        pytest.skip("only root can give files away")
    engine = cached_engine(pretrained(4), "fp16", spec())
    os.chown(engine, 65534, -1)
    assert not engine_cache.holds(read_sidecar(engine).sha256)


def test_the_gate_holds_for_a_cached_engine_too(tmp_path, edit_manifest, caplog):
    folder = tmp_path / "bundle"
    shutil.copytree(pretrained(4).path, folder)

    def fail(values):
        (entry,) = [entry for entry in values["files"] if entry["graph"] == "fp16"]
        entry["parity"] = None

    edit_manifest(folder, fail)
    with pytest.raises(GateError, match="it was not compared"):
        cached_engine(Bundle(folder), "fp16", spec())
    engine = cached_engine(Bundle(folder, allow_ungated=True), "fp16", spec())
    with pytest.raises(GateError, match="it was not compared"):
        cached_engine(Bundle(folder), "fp16", spec())
    with pytest.raises(GateError, match=r"the graph of .* did not pass its gates"):
        open_engine(engine)
    assert open_engine(engine, allow_ungated=True).manifest.gate_failure
    assert "as allowed" in caplog.text


def test_a_hit_needs_no_write_access(cache, monkeypatch):
    engine = cached_engine(pretrained(4), "fp16", spec())

    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    assert cached_engine(pretrained(4), "fp16", spec()) == engine
    with pytest.raises(InputError, match=r"Read-only file system.*set HFDN_CACHE"):
        cached_engine(pretrained(4), "fp32", spec())


def test_an_output_whose_sidecar_cannot_be_written_gets_no_engine(tmp_path):
    engine = cached_engine(pretrained(4), "fp16", spec())
    output = tmp_path / "x.engine"
    sidecar_path(output).mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        copy_engine(engine, output)
    assert not output.exists()


def test_a_copy_that_fails_leaves_what_was_there(tmp_path):
    engine = cached_engine(pretrained(4), "fp16", spec())
    output = tmp_path / "out" / "x.engine"
    output.parent.mkdir()
    before = {output: b"engine", sidecar_path(output): b"sidecar"}
    for path, content in before.items():
        path.write_bytes(content)
    with room_for(engine.stat().st_size - 1), pytest.raises(InputError, match="cannot be written"):
        copy_engine(engine, output)
    assert {path: path.read_bytes() for path in output.parent.iterdir()} == before


def test_targets_must_be_named_where_there_is_no_gpu():
    if engine_cache.device_here():
        pytest.skip("there is a GPU")
    with pytest.raises(BackendError, match="no CUDA device here; name a --target: sm75, sm80"):
        resolve_targets("rtx", [])
    with pytest.raises(InputError, match=r"cannot build for 'sm90', only for .*sm89"):
        resolve_targets("rtx", ["sm90"])
    assert resolve_targets("rtx", ["sm89", "sm86", "sm89"]) == ("sm86", "sm89")


def test_a_gpu_that_a_flavour_has_no_kernels_for(monkeypatch):
    """The obstacle says that the GPU is not supported and what to use instead."""
    h100 = Device("NVIDIA H100", "sm90", "13.0", "13.0")
    monkeypatch.setattr(Device, "current", lambda: h100)
    with pytest.raises(BackendError, match=r"runs on sm75, .*, not on sm90 \(NVIDIA H100\)"):
        resolve_targets("rtx", [])
    monkeypatch.setattr(
        "hfdn_deploy.backends.tensorrt.choose_flavour", lambda name: FLAVOURS["rtx"]
    )
    obstacle = why_unavailable("tensorrt")
    assert "not on sm90 (NVIDIA H100)" in obstacle.reason
    assert obstacle.advice == "use backend cuda"


def test_weights_are_stripped_where_there_is_a_gpu_alone():
    if engine_cache.device_here():
        pytest.skip("there is a GPU")
    with pytest.raises(BackendError, match="needs a GPU to strip weights"):
        cached_engine(pretrained(4), "fp16", spec(strip_weights=True))


def test_a_cache_that_cannot_be_made(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HFDN_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match="set HFDN_CACHE to a writable folder"):
        cached_engine(pretrained(4), "fp16", spec())


def test_the_command_writes_engine_and_sidecar(tmp_path):
    output = tmp_path / "x.engine"
    process = start("x4", "--target", "sm89", "--json", "-o", output)
    answer, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert json.loads(answer)["bytes"] == output.stat().st_size
    manifest = read_sidecar(output)
    assert (manifest.bundle, manifest.precision) == ("x4", "fp16")
    assert manifest.onnx_sha256 == pretrained(4).entry("fp16").sha256
    assert {path.name for path in tmp_path.iterdir()} == {
        "cache",
        output.name,
        sidecar_path(output).name,
    }
    assert os.access(output, os.R_OK)
