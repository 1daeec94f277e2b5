"""Trust in cached engines: real builds, in folders that another user owns or can write."""

import hashlib
import os
import shutil
from dataclasses import replace

import pytest

from hfdn_deploy.bundle import pretrained
from hfdn_deploy.cli import main
from hfdn_deploy.engines import (
    BuildSpec,
    cache_folder,
    cached_engine,
    folders,
    holds,
    open_engine,
    presets,
    read_sidecar,
    sidecar_path,
)
from hfdn_deploy.errors import EngineError, InputError
from tests.helpers.disks import room_for, sizes_below

pytestmark = [
    pytest.mark.usefixtures("trt"),
    pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system has no owners of files"),
]
SPEC = BuildSpec("rtx", (presets(2)["tile"],), ("sm89",))
COMMAND = ["build", "x2", "--profile", "tile", "--target", "sm89"]
SOMEBODY = 65534


@pytest.fixture(scope="module")
def built(trt, tmp_path_factory):
    """Return a cache with one engine, which tests copy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HFDN_CACHE", str(tmp_path_factory.mktemp("built")))
        cached_engine(pretrained(2), "fp16", SPEC)
        return cache_folder().parent


@pytest.fixture
def shared(built, tmp_path, monkeypatch):
    """Set $HFDN_CACHE to a cache with an engine that another user forged as this user's own."""
    root = shutil.copytree(built, tmp_path / "shared")
    monkeypatch.setenv("HFDN_CACHE", str(root))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    folders._warn.cache_clear()
    engine = engine_in(root)
    data = bytearray(engine.read_bytes())
    data[-1] ^= 1
    digest = hashlib.sha256(data).hexdigest()
    foreign = engine.with_name(f"{digest}.engine")
    foreign.write_bytes(data)
    manifest = replace(read_sidecar(engine), sha256=digest).sealed()
    sidecar_path(foreign).write_text(manifest.to_json())
    sidecar_path(engine).unlink()
    engine.unlink()
    return root


def engine_in(root):
    (engine,) = root.glob("engines/*/engine/*.engine")
    return engine


def opened_to_all(root):
    root.chmod(0o777)


def opened_below(root):
    (root / "engines").chmod(0o775)


def given_away(root):
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    for path in (root, *root.rglob("*")):
        os.chown(path, SOMEBODY, SOMEBODY)


def engines_given_away(root):
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    os.chown(root / "engines", SOMEBODY, SOMEBODY)


def linked(root):
    (root / "engines").rename(root / "elsewhere")
    (root / "engines").symlink_to("elsewhere")


@pytest.mark.parametrize(
    ("share", "reason"),
    [
        (opened_to_all, "other users can write {}"),
        (opened_below, "other users can write {}/engines"),
        (given_away, "{} belongs to another user"),
        (engines_given_away, "{}/engines belongs to another user"),
        (linked, "{}/engines is a link"),
    ],
)
def test_a_cache_that_others_can_write_is_not_used(shared, tmp_path, caplog, share, reason):
    foreign = engine_in(shared)
    share(shared)
    output = tmp_path / "out.engine"
    assert main([*COMMAND, "-o", str(output)]) == 0
    private = tmp_path / "home" / "hfdn-deploy" / "engines"
    said = f"{reason.format(shared)}, so engines, which are native code, cannot lie there;"
    assert caplog.messages.count(f"{said} {private} is used.") == 1
    assert output.read_bytes() == engine_in(private.parent).read_bytes() != foreign.read_bytes()
    assert open_engine(output).manifest.bundle == "x2"
    assert [path.stat().st_mode & 0o777 for path in (private.parent, private)] == [0o700] * 2
    assert not holds(read_sidecar(foreign).sha256)
    with pytest.raises(EngineError, match="was not built by you on this machine"):
        open_engine(foreign)


def test_without_a_private_cache_nothing_is_built(shared, tmp_path, capsys):
    opened_to_all(shared)
    (tmp_path / "home" / "hfdn-deploy").mkdir(parents=True)
    (tmp_path / "home" / "hfdn-deploy").chmod(0o777)
    assert main([*COMMAND, "-o", str(tmp_path / "out.engine")]) == 2
    error = capsys.readouterr().err
    assert f"error: other users can write {tmp_path / 'home' / 'hfdn-deploy'}, so engines," in error
    assert "restrict it to your user, or set HFDN_CACHE to a new folder" in error
    assert not (tmp_path / "out.engine").exists()


def test_an_engine_of_somebody_else_in_ones_own_cache_is_built_anew(shared, caplog):
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    foreign = engine_in(shared)
    os.chown(foreign, SOMEBODY, SOMEBODY)
    data = foreign.read_bytes()
    engine = cached_engine(pretrained(2), "fp16", SPEC)
    assert f"{foreign} belongs to another user. It is built again." in caplog.messages
    assert engine.read_bytes() != data
    assert not foreign.exists()


def test_a_folder_of_somebody_else_in_ones_own_cache_is_not_built_into(shared):
    key = engine_in(shared).parent.parent
    key.chmod(0o777)
    with pytest.raises(
        InputError, match=f"other users can write {key}; remove it, or set HFDN_CACHE"
    ):
        cached_engine(pretrained(2), "fp16", SPEC)


def test_a_name_is_not_believed(shared):
    """A file with the name of an engine's hash may be any file."""
    engine = engine_in(shared)
    sha256 = read_sidecar(engine).sha256
    assert holds(sha256)
    engine.write_bytes(b"something else")
    assert not holds(sha256)


def test_folders_are_private_whatever_the_umask(tmp_path, monkeypatch):
    monkeypatch.setenv("HFDN_CACHE", str(tmp_path / "a" / "cache"))
    old = os.umask(0)
    try:
        engine = cached_engine(pretrained(2), "fp16", SPEC)
    finally:
        os.umask(old)
    assert holds(read_sidecar(engine).sha256)
    made = [path for path in engine.parents if path.is_relative_to(tmp_path / "a" / "cache")]
    assert [path.stat().st_mode & 0o777 for path in made] == [0o700] * 4


def test_a_home_is_found_without_a_shell(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HFDN_CACHE", "~/x")
    assert cache_folder() == tmp_path / "x" / "engines"
    monkeypatch.setenv("HFDN_CACHE", "~nobody-of-that-name/x")
    with pytest.raises(InputError, match="there is no such user"):
        cache_folder()


def test_on_a_disk_that_fills_an_engine_is_whole_or_missing(built, tmp_path, monkeypatch):
    monkeypatch.setenv("HFDN_CACHE", str(tmp_path / "cache"))
    source = engine_in(built)
    monkeypatch.setattr("hfdn_deploy.engines.cache.build_engine", lambda *_: source.read_bytes())
    sidecar = sidecar_path(source).stat().st_size
    whole = source.stat().st_size
    for size in [*sizes_below(whole, 5), *sizes_below(sidecar, 3)]:
        with pytest.raises(InputError, match="cannot be written: File too large"), room_for(size):
            cached_engine(pretrained(2), "fp16", SPEC)
        assert not list(cache_folder().glob("*/engine")), size
        assert not list(cache_folder().glob("*/.*")), size
    with room_for(whole):
        engine = cached_engine(pretrained(2), "fp16", SPEC)
    assert open_engine(engine).data == source.read_bytes()
