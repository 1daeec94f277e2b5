"""The cache of engines, after files in it were changed, moved, linked or added."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfdn_deploy.bundle import pretrained
from hfdn_deploy.engines import (
    BuildSpec,
    cached_engine,
    holds,
    open_engine,
    presets,
    why_unavailable,
)
from hfdn_deploy.errors import HFDNError
from tests.helpers.mutations import damaged, rewritten
from tests.helpers.profiles import fuzz

SOURCE = pretrained(2)
SPEC = BuildSpec("rtx", (presets(2)["tile"],), ("sm89",))
# Stands for an engine: cases compare it and never run it, so that they need no build.
BUILT = b"engine" * 50
FOREIGN = b"foreign" * 50
KINDS = (
    "bytes", "foreign", "name", "sidecar", "text", "no sidecar", "folder", "link", "loop",
    "dangling", "owner", "other", "file for folder", "file for key", "folder for lock",
)  # fmt: skip


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    """Yield an engine's path in an intact cache, and the folder of that cache."""
    if reason := why_unavailable("rtx"):
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("caches")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hfdn_deploy.engines.cache.build_engine", lambda *_: BUILT)
        patch.setenv("HFDN_CACHE", str(folder / "sound"))
        built = cached_engine(SOURCE, "fp32", SPEC)
        assert open_engine(built).data == BUILT
        patch.setenv("HFDN_CACHE", str(folder / "case"))
        yield built.relative_to(folder / "sound"), folder


def change(draw, engine: Path, outside: Path) -> None:
    """Make one change to a cache that its user would not make."""
    kind = draw(st.sampled_from(KINDS))
    sidecar = engine.with_name(f"{engine.name}.json")
    document = json.loads(sidecar.read_text())
    folder, key = engine.parent, engine.parent.parent
    if kind == "bytes":
        engine.write_bytes(draw(damaged([BUILT])))
    elif kind == "foreign":
        engine.write_bytes(FOREIGN)
    elif kind == "name":
        engine.rename(engine.with_name(f"{sha256(FOREIGN)}.engine"))
    elif kind == "sidecar":
        sidecar.write_text(json.dumps(draw(rewritten(document))))
    elif kind == "text":
        sidecar.write_bytes(draw(damaged([sidecar.read_bytes()])))
    elif kind == "no sidecar":
        sidecar.unlink()
    elif kind == "owner":
        if os.getuid() == 0:
            os.chown(engine, 65534, 65534)
    elif kind == "other":
        (folder / f"{sha256(FOREIGN)}.engine").write_bytes(FOREIGN)
        text = json.dumps(document).replace(sha256(BUILT), sha256(FOREIGN))
        (folder / f"{sha256(FOREIGN)}.engine.json").write_text(text)
    elif kind in ("folder", "link", "loop", "dangling"):
        chosen = draw(st.sampled_from([engine, sidecar]))
        chosen.unlink()
        if kind == "folder":
            chosen.mkdir()
        else:
            chosen.symlink_to({"link": outside, "loop": chosen}.get(kind, key / "nothing"))
    elif kind == "folder for lock":
        (key / "lock").unlink(missing_ok=True)
        (key / "lock").mkdir()
    else:
        chosen = folder if kind == "file for folder" else key
        shutil.rmtree(chosen)
        chosen.write_bytes(FOREIGN)


def is_there(cache: Path, digest: str) -> bool:
    """Return whether a file owned by this user has the content that its name declares."""
    return any(
        path.is_file() and path.stat().st_uid == os.getuid() and sha256(path.read_bytes()) == digest
        for path in cache.rglob(f"{digest}.engine")
    )


@fuzz(2000)
@given(data=st.data())
def test_no_cache_gives_what_was_not_built(caches, data):
    engine, folder = caches
    case = folder / "case"
    shutil.rmtree(case, ignore_errors=True)
    shutil.copytree(folder / "sound", case)
    outside = folder / "outside"
    outside.write_bytes(FOREIGN)
    change(data.draw, case / engine, outside)
    for digest in map(sha256, (BUILT, FOREIGN)):
        assert is_there(case, digest) or not holds(digest)
    try:
        found = cached_engine(SOURCE, "fp32", SPEC)
        assert (found.name, found.read_bytes()) == (f"{sha256(BUILT)}.engine", BUILT)
        assert open_engine(found).data == BUILT
    except HFDNError:
        pass
    assert outside.read_bytes() == FOREIGN
