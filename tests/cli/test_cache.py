import json
import re

import pytest
from filelock import FileLock

from hfdn_deploy.cli import main
from hfdn_deploy.engines import cache_entries, cache_folder, why_unavailable


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HFDN_CACHE", "~/cache")
    return tmp_path / "cache" / "engines"


def test_the_home_of_the_user_is_known(cache, monkeypatch, capsys):
    assert cache_folder() == cache
    monkeypatch.setenv("HFDN_CACHE", "~nobody-of-this-name/cache")
    assert main(["cache", "list"]) == 2
    assert "there is no such user" in capsys.readouterr().err


def test_an_empty_cache(cache, capsys):
    for action in ("list", "clear"):
        assert main(["cache", action]) == 0
        assert capsys.readouterr().out == f"{cache}: 0 entries, 0.0 MiB\n"
    assert not cache.exists()


def test_engines_are_listed_and_removed(cache, capsys, caplog):
    if reason := why_unavailable("rtx"):
        pytest.skip(str(reason))
    assert main(["build", "x2", "--precision", "fp32", "--target", "sm89", "--json"]) == 0
    built = json.loads(capsys.readouterr().out)
    for name in ("timing/gpu.cache", "mine/file", "0" * 64 + "/lock"):
        (cache / name).parent.mkdir()
        (cache / name).write_bytes(b"12345")

    assert main(["cache", "list", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["cache"] == str(cache)
    by_path = {entry["path"]: entry for entry in report["entries"]}
    assert len(by_path) == 3
    assert by_path[str(cache / "timing")]["what"] == "kernel times, for later builds"
    assert by_path[str(cache / "timing")]["bytes"] == 5
    assert by_path[str(cache / ("0" * 64))]["what"] == "an unfinished build"
    (engine,) = (entry for path, entry in by_path.items() if built["engine"].startswith(path))
    assert re.fullmatch(r"x2, fp32, built by TensorRT-RTX \S+ for sm89", engine["what"])
    assert 0 < engine["bytes"] - built["bytes"] < 10_000  # the sidecar

    with FileLock(cache / ("0" * 64) / "lock"):
        assert main(["cache", "clear"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert sorted(line.split(": ")[0] for line in lines) == sorted(
        f"removed {path}" for path in by_path if "0" * 64 not in path
    )
    assert last == f"{cache}: 2 entries, {(engine['bytes'] + 5) / 2**20:.1f} MiB"
    assert "is being built and is not removed" in caplog.text
    assert [entry.path.name for entry in cache_entries()] == ["0" * 64]
    assert (cache / "mine" / "file").exists()
