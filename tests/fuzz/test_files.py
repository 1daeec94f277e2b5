"""Damaged or hostile bundles, checkpoints and engines.

Each is read correctly or refused with an HFDNError.
"""

import hashlib
import json
import os
from contextlib import suppress

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfdn_deploy import Upscaler
from hfdn_deploy.bundle import Bundle, pretrained
from hfdn_deploy.cli import describe
from hfdn_deploy.engines import (
    BuildSpec,
    cached_engine,
    copy_engine,
    holds,
    open_engine,
    presets,
    sidecar_path,
    why_unavailable,
)
from hfdn_deploy.errors import HFDNError
from hfdn_deploy.graph import PARTS, part_of
from hfdn_deploy.network import load_checkpoint
from tests.helpers.mutations import damaged, rewritten
from tests.helpers.paths import ROOT
from tests.helpers.profiles import fuzz

CASES = 1000
SOURCE = pretrained(4)
MANIFEST = json.loads((SOURCE.path / "manifest.json").read_text())
# One graph and no long statistics, so that changes hit important values more often.
SMALL = {
    **MANIFEST,
    "quantization": None,
    "files": [entry for entry in MANIFEST["files"] if entry["graph"] == "fp32"],
}
FOREIGN = ("domain", "operator", "input", "output", "no input", "no output", "attributes")
MODEL = SOURCE.read_model("fp32")
CHECKPOINT = (ROOT / "checkpoints" / "hfdn_x4.safetensors").read_bytes()
# Bytes of the safetensors header; the rest is numbers, all of which are valid.
HEADER = 8 + int.from_bytes(CHECKPOINT[:8], "little")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a bundle that each case overwrites."""
    path = tmp_path_factory.mktemp("fuzz") / "bundle"
    path.mkdir()
    (path / "fp32.onnx").write_bytes(MODEL)
    return path


def use(folder, run=False):
    """Use a bundle as a user would."""
    bundle = Bundle(folder)
    for entry in bundle.manifest.files:
        model = bundle.read_model(entry.graph)
        for part in PARTS if run else ():
            with suppress(HFDNError):
                part_of(model, part, bundle.manifest.scale)
    if run:
        with Upscaler.load(folder, "onnxruntime") as up:
            assert up.backend.run(np.zeros((1, 1, 4, 5), np.float32)).ndim == 4
    describe(folder)


@fuzz(CASES)
@given(rewritten(SMALL))
def test_manifests_with_a_value_changed(folder, document):
    (folder / "manifest.json").write_text(json.dumps(document))
    with suppress(HFDNError):
        use(folder)


@fuzz(CASES)
@given(damaged([json.dumps(SMALL).encode()]))
def test_damaged_manifests(folder, text):
    (folder / "manifest.json").write_bytes(text)
    with suppress(HFDNError):
        use(folder)


@fuzz(CASES)
@given(st.data())
def test_graphs_whose_hash_is_made_to_fit(folder, data):
    """An attacker who can change a graph can also change its hash, so any graph must be handled."""
    model = data.draw(st.one_of(damaged([MODEL[:4000]]), damaged([MODEL[-4000:]])))
    end = data.draw(st.booleans())
    changed = MODEL[:-4000] + model if end else model + MODEL[4000:]
    write_graph(folder, changed)
    with suppress(HFDNError):
        use(folder)


def write_graph(folder, model):
    (folder / "fp32.onnx").write_bytes(model)
    document = json.loads(json.dumps(SMALL))
    document["files"][0]["sha256"] = hashlib.sha256(model).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(document))


@fuzz(CASES)
@given(st.data())
def test_graphs_with_foreign_nodes(folder, data):
    model = onnx.load_model_from_string(MODEL)
    node = model.graph.node[data.draw(st.integers(0, len(model.graph.node) - 1))]
    kind = data.draw(st.sampled_from(FOREIGN))
    if kind == "domain":
        node.domain = data.draw(st.sampled_from(["com.evil", "com.microsoft", "ai.onnx.ml"]))
    elif kind == "operator":
        node.op_type = data.draw(st.sampled_from(["If", "Loop", "Conv", "Resize", "Nothing", ""]))
    elif kind == "input":
        node.input[0] = data.draw(st.sampled_from(["", "lr", "sr", "nothing"]))
    elif kind == "output":
        node.output[0] = data.draw(st.sampled_from(["", "lr", "sr", "nothing"]))
    elif kind == "attributes":
        del node.attribute[:]
    else:
        del getattr(node, kind[3:])[:]
    write_graph(folder, model.SerializeToString())
    with suppress(HFDNError):
        use(folder, run=True)


@fuzz(CASES)
@given(st.one_of(damaged([CHECKPOINT[:HEADER]]), damaged([CHECKPOINT[-1000:]])), st.booleans())
def test_damaged_checkpoints(folder, part, whole):
    path = folder.parent / "x.safetensors"
    path.write_bytes(part + CHECKPOINT[HEADER:] if whole else part)
    with suppress(HFDNError):
        load_checkpoint(path)
    with suppress(HFDNError):
        describe(path)


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    if reason := why_unavailable("rtx"):
        pytest.skip(reason)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HFDN_CACHE", str(tmp_path_factory.mktemp("cache")))
        spec = BuildSpec("rtx", (presets(4)["tile"],), ("sm89",))
        built = cached_engine(SOURCE, "fp16", spec)
        copy = tmp_path_factory.mktemp("engine") / "x.engine"
        copy_engine(built, copy)
        yield built, copy


@fuzz(CASES)
@given(data=st.data())
def test_sidecars_with_a_value_changed(engine, data):
    good, path = engine
    document = json.loads(sidecar_path(good).read_text())
    changed = data.draw(rewritten(document))
    sidecar_path(path).write_text(json.dumps(changed))
    with suppress(HFDNError):
        describe(path)
    try:
        open_engine(path)
    except HFDNError:
        return
    # Only an equivalent document is accepted.
    assert json.loads(json.dumps(changed)) == document


@fuzz(CASES)
@given(data=st.data())
def test_damaged_sidecars_and_engines(engine, data):
    good, path = engine
    text, content = sidecar_path(good).read_text(), good.read_bytes()
    sidecar_path(path).write_bytes(data.draw(damaged([text.encode()])))
    with suppress(HFDNError):
        describe(path)
    with suppress(HFDNError):
        open_engine(path)
    sidecar_path(path).write_text(text)
    start = data.draw(st.integers(0, len(content) - 4096))
    part = data.draw(damaged([content[start : start + 4096]]))
    path.write_bytes(content[:start] + part + content[start + 4096 :])
    try:
        open_engine(path)
    except HFDNError:
        return
    assert part == content[start : start + 4096]


@fuzz(CASES)
@given(data=st.data())
def test_a_cache_holds_what_nobody_else_can_have_put_there(tmp_path_factory, data):
    if not hasattr(os, "geteuid"):
        pytest.skip("files have no owners on this system")
    root = tmp_path_factory.mktemp("cache")
    content = b"an engine"
    sha256 = hashlib.sha256(content).hexdigest()
    key = root / "engines" / "key"
    folders = [root, key.parent, key, key / "engine"]
    for folder in folders[1:]:
        folder.mkdir()
    engine = folders[-1] / f"{sha256}.engine"
    own = data.draw(st.booleans()) or data.draw(st.booleans())
    engine.write_bytes(content if own else b"another")
    for path in folders:
        mode = data.draw(st.sampled_from((0o700, 0o755, 0o700, 0o750, 0o775, 0o707, 0o1777)))
        path.chmod(mode)
        own = own and not mode & 0o022
    if os.geteuid() == 0:
        for path in (*folders, engine):
            owner = data.draw(st.sampled_from((0, 0, 0, 0, 65534)))
            os.chown(path, owner, -1)
            own = own and owner == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HFDN_CACHE", str(root))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("home")))
        assert holds(sha256) == own
