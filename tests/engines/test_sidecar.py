"""Engines that must not run are refused before TensorRT reads them, each with its reason."""

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace

import pytest

from hfdn_deploy.backends import Obstacle, TensorRTBackend
from hfdn_deploy.bundle import pretrained
from hfdn_deploy.cli import main
from hfdn_deploy.cuda import Device
from hfdn_deploy.engines import (
    FLAVOURS,
    BuildSpec,
    cached_engine,
    check_device,
    copy_engine,
    open_engine,
    presets,
    read_sidecar,
    sidecar_path,
)
from hfdn_deploy.errors import BackendError, EngineError, InputError
from hfdn_deploy.upscaler import Upscaler


@pytest.fixture
def engine(trt, tmp_path):
    spec = BuildSpec("rtx", (presets(4)["photo"],), ("sm89",))
    copy_engine(cached_engine(pretrained(4), "fp16", spec), tmp_path / "x.engine")
    return tmp_path / "x.engine"


def edit(engine, **changes):
    path = sidecar_path(engine)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def reseal(engine, **changes):
    manifest = replace(read_sidecar(engine), **changes).sealed()
    sidecar_path(engine).write_text(manifest.to_json())


def flip(engine):
    data = bytearray(engine.read_bytes())
    data[len(data) // 2] ^= 1
    engine.write_bytes(data)


def truncate(engine):
    engine.write_bytes(engine.read_bytes()[:-1])


HERE = FLAVOURS["rtx"].version

DAMAGES = {
    "flipped byte": (flip, "is not the file that was built (its SHA-256 differs"),
    "truncated": (truncate, " bytes; copy it again, or run `hfdn build x4 --precision fp16"),
    "edited sidecar": (lambda e: edit(e, scale=2), "was edited: its checksum does not match"),
    "another version, edited": (
        lambda e: edit(e, version="1.6.0.1"),
        f"for sm89; this machine has TensorRT-RTX {HERE}: build it again with `hfdn build`",
    ),
    "another version": (
        lambda e: reseal(e, version="1.6.0.1"),
        f"by TensorRT-RTX 1.6.0.1 for sm89; this machine has TensorRT-RTX {HERE}: run `hfdn",
    ),
    "another system": (lambda e: reseal(e, platform="windows-amd64"), "was built on windows-amd64"),
    "another engine": (lambda e: reseal(e, sha256="0" * 64), "is not the file that was built"),
    "no sidecar": (lambda e: sidecar_path(e).unlink(), "has no sidecar"),
    "sidecar of another schema": (lambda e: edit(e, schema=99), "upgrade hfdn-deploy"),
    "sidecar that is no JSON": (lambda e: sidecar_path(e).write_text("{"), "is damaged"),
    "sidecar without a field": (lambda e: edit(e, spec={}), "is damaged: spec."),
    "version that is none": (lambda e: edit(e, version="1.7.dev0"), "damaged: version is"),
    "text that is none": (lambda e: edit(e, bundle="\ud800"), "was edited"),
    "command in a name": (
        lambda e: edit(e, bundle="x4; reboot"),
        "build it again with `hfdn build`",
    ),
    "target that is none": (
        lambda e: edit(
            e, spec={**json.loads(sidecar_path(e).read_text())["spec"], "targets": ["?"]}
        ),
        "damaged: target is",
    ),
    "endless engine": (lambda e: os.truncate(e, 2**40), f"has {2**40} of "),
    "no engine": (lambda e: e.unlink(), "cannot be read"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_refused_with_a_sentence_of_its_own(engine, capsys, monkeypatch, damage):
    change, message = DAMAGES[damage]
    change(engine)

    def never(name):
        raise AssertionError("TensorRT was loaded")

    monkeypatch.setattr("hfdn_deploy.engines.flavour.why_unavailable", never)
    monkeypatch.setattr("hfdn_deploy.engines.flavour.Flavour.trt", property(never))
    assert main(["upscale", "x.png", "-o", "y.png", "--model", str(engine), "--trust"]) == 5
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_an_engine_of_somebody_else_needs_trust(engine, monkeypatch, tmp_path):
    assert open_engine(engine).manifest.precision == "fp16"
    monkeypatch.setenv("HFDN_CACHE", str(tmp_path / "somebody else's"))
    with pytest.raises(EngineError, match=r"was not built by you on this machine.*--trust"):
        open_engine(engine)
    assert open_engine(engine, trust=True).data == engine.read_bytes()


def test_a_link_has_the_sidecar_of_its_target(engine, tmp_path):
    link = tmp_path / "link.engine"
    link.symlink_to(engine)
    assert open_engine(link).manifest == read_sidecar(engine)


def test_what_is_not_there_has_no_engine(tmp_path):
    link = tmp_path / "x.engine"
    link.symlink_to(link)
    for path in (link, tmp_path / "y.engine"):
        with pytest.raises(EngineError, match="does not exist; check the path"):
            open_engine(path)


def test_a_rebuild_is_told_with_its_options(engine):
    bundle = "/some where/b"
    reseal(engine, bundle=bundle, spec=replace(read_sidecar(engine).spec, strip_weights=True))
    assert read_sidecar(engine).rebuild == (
        "run `hfdn build '/some where/b' --precision fp16 --flavour rtx --profile photo "
        "--strip-weights -o ENGINE`"
    )


def test_an_engine_for_another_gpu_is_refused(engine):
    manifest = read_sidecar(engine)
    check_device(engine, manifest, Device("Ada", "sm89", "13.0", "13.0"))
    ampere = Device("RTX 3090", "sm86", "13.0", "13.0")
    with pytest.raises(
        EngineError, match=r"for sm89; this machine has sm86 \(RTX 3090\): run `hfdn build x4"
    ):
        check_device(engine, manifest, ampere)
    spec = replace(manifest.spec, hardware_compatible=True)
    check_device(engine, replace(manifest, spec=spec), ampere)


def test_a_version_compatible_engine_runs_with_later_versions_alone(engine):
    spec = replace(read_sidecar(engine).spec, version_compatible=True)
    reseal(engine, spec=spec, version="1.0.0.1")
    assert open_engine(engine).manifest.version == "1.0.0.1"
    reseal(engine, spec=spec, version="1.99.0.1")
    with pytest.raises(EngineError, match=r"built by TensorRT-RTX 1\.99\.0\.1"):
        open_engine(engine)
    reseal(engine, spec=spec, version="0.9.0.1")
    with pytest.raises(EngineError, match=r"built by TensorRT-RTX 0\.9\.0\.1"):
        open_engine(engine)


@pytest.mark.parametrize("version", ["10.14.1.48.post1", "10.0.0b6", "11.0.0rc1", "10.16"])
def test_an_engine_of_a_version_that_is_not_numbers_alone_is_fresh(engine, monkeypatch, version):
    monkeypatch.setattr("importlib.metadata.version", lambda package: version)
    reseal(engine, version=version)
    assert open_engine(engine).manifest.version == version


@pytest.mark.parametrize(
    ("built", "here", "runs"),
    [
        ("10.14.1.48", "10.14.1.48.post1", True),
        ("10.14.1.48.post1", "10.14.1.49", True),
        ("10.14.1.48.post1", "10.14.1.48", False),
        ("10.14.1b2", "10.14.1", False),
        ("10.14.1", "11.0.0", False),
    ],
)
def test_later_versions_are_told_from_earlier_ones(engine, monkeypatch, built, here, runs):
    monkeypatch.setattr("importlib.metadata.version", lambda package: here)
    reseal(engine, spec=replace(read_sidecar(engine).spec, version_compatible=True), version=built)
    with (
        nullcontext()
        if runs
        else pytest.raises(EngineError, match=f"this machine has .* {here}: run")
    ):
        open_engine(engine)


def test_a_missing_flavour_is_named(engine):
    reseal(engine, spec=replace(read_sidecar(engine).spec, flavour="tensorrt"))
    if FLAVOURS["tensorrt"].version:
        pytest.skip("TensorRT is installed")
    with pytest.raises(BackendError, match=r"needs TensorRT, which is not installed: pip install"):
        open_engine(engine)


def test_an_engine_has_one_precision_and_one_backend(engine, monkeypatch):
    with pytest.raises(InputError, match="is an engine in fp16, not int8"):
        Upscaler.load(engine, precision="int8")
    with pytest.raises(BackendError, match="does not run engines"):
        Upscaler.load(engine, backend="onnxruntime")
    # "auto" takes the engine's own precision, so only the missing library is refused.
    for precision in ("fp16", "auto"):
        monkeypatch.setattr(TensorRTBackend, "why_unavailable", lambda: Obstacle("no GPU", "buy"))
        with pytest.raises(BackendError, match="not tensorrt: no GPU: buy"):
            Upscaler.load(engine, precision=precision)


def test_without_a_gpu_one_sentence_says_so(engine, tmp_path):
    try:
        Device.current()
    except BackendError as error:
        assert "no CUDA device" in str(error)
    else:
        pytest.skip("there is a GPU")
    command = [
        sys.executable,
        "-m",
        "hfdn_deploy",
        "upscale",
        "x.png",
        "-o",
        tmp_path / "y.png",
    ]
    done = subprocess.run([*command, "--model", engine], capture_output=True, text=True)
    assert done.returncode == 4
    (line,) = done.stderr.splitlines()
    assert "there is no CUDA device here" in line


def test_info_reads_the_sidecar_alone(engine, capsys):
    assert main(["info", "--json", str(engine)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["kind"] == "engine"
    assert facts["spec"]["targets"] == ["sm89"]
    assert facts["fits_its_sidecar"]
    assert facts["built_by_this_user"]
    assert facts["profiles"] == ["photo (1x1x1, 1x640x480, 1x1024x1024)"]
    edit(engine, scale=3)
    assert main(["info", "--json", str(engine)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert not facts["sidecar_unchanged"]
    assert not facts["built_by_this_user"]
    edit(engine, scale=4)
    flip(engine)
    assert main(["info", "--json", str(engine)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert not facts["fits_its_sidecar"]
    assert not facts["built_by_this_user"]
