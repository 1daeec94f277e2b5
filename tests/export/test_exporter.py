import hashlib
import shutil

import numpy as np
import onnx
import pytest
import torch

from export import judge, kinds, parity, sessions, tracing
from export.cli import main
from export.exporter import export_bundle, verify_bundle
from export.fp16 import Loss, to_fp16
from export.locate import blame, node_departures
from export.parity import GATES
from hfdn_deploy.bench import psnr
from hfdn_deploy.bundle import Bundle, pretrained, pretrained_scales
from hfdn_deploy.errors import BundleError, GateError, InputError
from hfdn_deploy.images import imresize
from hfdn_deploy.network import load_checkpoint, save_checkpoint
from tests.helpers.graphs import damage, scale_by_four, set_nan
from tests.helpers.networks import make_network
from tests.helpers.paths import ROOT
from tests.helpers.small_grid import leave, make_small


def nudge(values):
    values.flat[0] += 0.05


DAMAGES = [
    ("hfms.1.adu.convs.2.weight", scale_by_four),
    ("heads.s.deconv.weight", set_nan),
    ("attention.ca.excite.bias", scale_by_four),
    ("shallow1.weight", nudge),
]


@pytest.fixture(scope="module")
def reference(checkpoint):
    """Return the network of `checkpoint` as a function of arrays, cached by input."""
    return judge.reference(load_checkpoint(checkpoint))


def reuse_graph(patch, bundle):
    """Take the graph of `checkpoint` instead of tracing it again."""
    patch.setattr(tracing, "to_onnx", lambda network: onnx.load(bundle / "fp32.onnx"))


@pytest.fixture
def traced(bundle, monkeypatch):
    reuse_graph(monkeypatch, bundle)


@pytest.fixture(scope="module")
def exported(checkpoint, bundle, tmp_path_factory):
    """Export `checkpoint` in fp32 and fp16, judged on few and small images."""
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        reuse_graph(patch, bundle)
        return export_bundle(checkpoint, tmp_path_factory.mktemp("b") / "both", ("fp32", "fp16"))


def test_grid_holds_what_breaks_things():
    grid = {case.name: case.lr for case in parity.grid(4)}
    shapes = {lr.shape for lr in grid.values()}
    assert {(1, 1, 1, 1), (1, 1, 1, 7), (3, 1, 16, 24), (1, 1, 31, 37)} <= shapes
    assert {"black", "white", "noise", "step", "checkerboard"} <= set(grid)
    assert sum(name.startswith("photograph") for name in grid) >= 4
    assert all(lr.dtype == np.float32 for lr in grid.values())
    assert grid["white"].min() == 1
    assert grid["black"].max() == 0


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_photographs_lie_over_their_originals(scale):
    pairs = [(c.lr, c.original) for c in parity.grid(scale) if c.original is not None]
    for lr, original in pairs:
        assert original.shape == (scale * lr.shape[2], scale * lr.shape[3])
        enlarged = imresize(lr[0, 0] * 255, scale)
        aligned = psnr(enlarged, original, border=8)
        assert aligned > psnr(enlarged, np.roll(original, scale, axis=0), border=8) + 0.5


def test_parity_measures(reference):
    def off_by_a_level(lr):
        return reference(lr) + (np.float32(1 / 255) if lr.shape[2:] == (31, 37) else 0)

    result = parity.compare(off_by_a_level, off_by_a_level, reference, 4, GATES["fp32"])
    assert not result.passed
    assert result.worst.name == "noise, prime"
    assert result.worst.max_abs == pytest.approx(1 / 255, rel=1e-4)
    assert result.worst.mean_abs == pytest.approx(1 / 255, rel=1e-4)
    assert result.worst.psnr_db == pytest.approx(20 * np.log10(255), abs=1e-3)
    assert all(case.psnr_db is None for case in result.cases if case is not result.worst)


def test_gates_of_fp16_are_levels_and_decibels(reference):
    def noisy(lr):
        return reference(lr) + np.float32(0.5 / 255) * np.random.default_rng(0).choice(
            [-1, 1], reference(lr).shape
        )

    gates = {g.name: g for g in parity.compare(noisy, noisy, reference, 4, GATES["fp16"]).gates}
    assert gates["max_levels"].value == pytest.approx(0.5, abs=1e-3)
    assert gates["max_levels"].limit == 1
    assert gates["not_finite"].value == 0
    assert 0 < gates["psnr_loss_db"].value < 0.1

    def blur(lr):
        return reference(lr) * 0.9

    blurred = parity.compare(blur, blur, reference, 4, GATES["fp16"])
    assert not blurred.passed
    assert {g.name: g.value for g in blurred.gates}["psnr_loss_db"] > 0.05


@pytest.mark.parametrize("broken", ["nan", "shape"])
def test_parity_sees_nan_and_wrong_shapes(reference, broken):
    def candidate(lr):
        sr = reference(lr)
        if lr.shape[2:] == (1, 7):
            return sr * np.float32("nan") if broken == "nan" else sr[..., 1:]
        return sr

    result = parity.compare(candidate, candidate, reference, 4, GATES["fp32"])
    assert not result.passed
    assert result.worst.name == "noise, 1×7"


@pytest.mark.parametrize(("name", "change"), DAMAGES)
@pytest.mark.usefixtures("small_grid", "traced")
def test_a_damaged_graph_enters_no_bundle(checkpoint, tmp_path, monkeypatch, name, change):
    def damaged(network):
        model = to_onnx(network)
        damage(model, name, change)
        return model

    to_onnx = tracing.to_onnx
    monkeypatch.setattr(tracing, "to_onnx", damaged)
    with pytest.raises(GateError, match=rf"first departing node: {name.rpartition('.')[0]} \("):
        export_bundle(checkpoint, tmp_path / "bundle")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "change"), DAMAGES[:2])
@pytest.mark.usefixtures("small_grid")
def test_verify_refuses_a_damaged_graph(
    bundle, checkpoint, tmp_path, capsys, edit_manifest, name, change
):
    copy = shutil.copytree(bundle, tmp_path / "copy")
    path = copy / "fp32.onnx"
    model = onnx.load(path)
    damage(model, name, change)
    path.write_bytes(model.SerializeToString())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    edit_manifest(copy, lambda m: m["files"][0].update(sha256=digest))
    assert main(["verify", str(copy), str(checkpoint), "--locate"]) == 3
    assert f"first departing node: {name.rpartition('.')[0]} (" in capsys.readouterr().err


@pytest.mark.slow
def test_fp16_passes_its_gates_and_halves_the_file(exported):
    full, half = exported.manifest.files
    assert (full.graph, half.graph) == ("fp32", "fp16")
    assert half.input == full.input
    assert half.output == full.output
    assert (half.halo, half.pooled) == (full.halo, full.pooled)
    assert 0 < half.parity.worst.max_abs * 255 < 1
    sizes = [(exported.path / entry.file).stat().st_size for entry in (full, half)]
    assert sizes[1] < 0.52 * sizes[0]
    model = onnx.load(exported.path / half.file)
    kinds = {tensor.data_type for tensor in model.graph.initializer}
    assert kinds == {onnx.TensorProto.FLOAT16, onnx.TensorProto.INT64}


def test_fp16_reports_what_leaves_its_range(bundle, reference):
    model = onnx.load(bundle / "fp32.onnx")

    def spoil(values):
        values.flat[:3] = (1e5, 1e-9, -1e-9)

    damage(model, "heads.m.conv1.weight", spoil)
    half, losses = to_fp16(model)
    assert Loss("heads.m.conv1", overflowed=1, flushed=2) in losses
    run = sessions.candidate(half)
    result = parity.compare(run, run, reference, 4, GATES["fp16"])
    assert not result.passed
    full = onnx.load(bundle / "fp32.onnx")
    departures = node_departures(half, full, "fp16", parity.grid(4)[0].lr)
    assert blame(departures, "fp16").startswith("most departing node: heads.m.conv1 (")


@pytest.mark.slow
def test_verify_repeats_the_gate(exported, checkpoint, tmp_path, small_grid):
    entries = verify_bundle(exported.path, checkpoint)
    assert [entry.graph for entry in entries] == ["fp32", "fp16"]
    assert entries == exported.manifest.files
    save_checkpoint(tmp_path / "other.safetensors", make_network(seed=1))
    with pytest.raises(BundleError, match="was not exported from"):
        verify_bundle(exported.path, tmp_path / "other.safetensors")


@pytest.mark.usefixtures("small_grid", "traced")
def test_export_writes_over_bundles_only(bundle, checkpoint, tmp_path, monkeypatch):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").touch()
    with pytest.raises(InputError, match="is not a bundle"):
        export_bundle(checkpoint, tmp_path / "precious")
    assert (tmp_path / "precious" / "thesis.txt").exists()
    (tmp_path / "file").touch()
    with monkeypatch.context() as patch:
        patch.setattr(tracing, "to_onnx", None)  # these are refused before it
        for name, place in (("output", "b"), ("report_to", "a")):
            places = {"output": tmp_path / "o", name: tmp_path / "file" / place}
            with pytest.raises(InputError, match="cannot be written: Not a directory"):
                export_bundle(checkpoint, **places)
    copy = shutil.copytree(bundle, tmp_path / "copy")
    (copy / "manifest.json").write_text("damaged")
    export_bundle(checkpoint, copy)
    Bundle(copy).read_model("fp32")


@pytest.mark.parametrize("precision", ["bf16", "fp8"])
def test_only_precisions_with_a_graph_are_exported(checkpoint, tmp_path, precision):
    with pytest.raises(InputError, match=f"{precision}: not exported; choose from fp32, fp16"):
        export_bundle(checkpoint, tmp_path / "b", ("fp32", precision))
    assert not list(tmp_path.iterdir())


def test_only_a_bundle_and_nothing_else_is_replaced(bundle, checkpoint, tmp_path):
    (tmp_path / "webapp").mkdir()
    (tmp_path / "webapp" / "manifest.json").write_text('{"name": "my web app"}')
    copy = shutil.copytree(bundle, tmp_path / "copy")
    (copy / "notes.txt").touch()
    for folder in ("webapp", "copy"):
        with pytest.raises(InputError, match="is not a bundle"):
            export_bundle(checkpoint, tmp_path / folder)
    assert (copy / "notes.txt").exists()
    assert (tmp_path / "webapp" / "manifest.json").exists()


@pytest.mark.usefixtures("small_grid")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda m: (m.update(scale=3), m["configuration"].update(scale=3)),
            "says scale 3, but it is 4",
        ),
        (lambda m: m["configuration"].update(dense="plain"), "says configuration"),
        (lambda m: m.update(macs_true=5), "says macs_true 5, but it is 1156"),
        (lambda m: m["files"][0].update(halo=3), "describes fp32.onnx wrongly"),
    ],
)
def test_verify_checks_what_the_manifest_says(
    bundle, checkpoint, tmp_path, edit_manifest, change, message
):
    copy = shutil.copytree(bundle, tmp_path / "copy")
    edit_manifest(copy, change)
    with pytest.raises(BundleError, match=message):
        verify_bundle(copy, checkpoint)


def test_a_graph_that_onnxruntime_refuses_fails_the_gate(bundle):
    model = onnx.load(bundle / "fp32.onnx")
    model.graph.node[3].domain = "com.example"
    with pytest.raises(GateError, match="ONNX Runtime refuses the graph"):
        sessions.candidate(model)


@pytest.mark.usefixtures("small_grid", "traced")
def test_a_pth_file_is_exported_with_its_scale(checkpoint, tmp_path):
    network = load_checkpoint(checkpoint)
    torch.save(network.state_dict(), tmp_path / "a.pth")
    assert main([str(tmp_path / "a.pth"), "-o", str(tmp_path / "b"), "--scale", "4"]) == 0
    assert Bundle(tmp_path / "b").manifest.parameters == 760_127


@pytest.mark.slow
@pytest.mark.parametrize("scale", pretrained_scales())
def test_shipped_bundles_are_their_checkpoints(scale, monkeypatch):
    # All images are judged, whole and in smaller tiles, when a bundle is exported. The grid keeps
    # its five photographs, because the measured loss of one scatters by 0.1 dB, and the sharp ones
    # are all judged, because their gate allows one pixel in 10,000.
    leave(monkeypatch, 2, whole=("photographs",))
    monkeypatch.setattr(kinds, "SIDE", 32)
    monkeypatch.setattr(sessions, "TILE", 40)
    checkpoint = ROOT / "checkpoints" / f"hfdn_x{scale}.safetensors"
    entries = verify_bundle(pretrained(scale).path, checkpoint)
    assert [entry.graph for entry in entries] == ["fp32", "fp16", "int8", "int8-cpu"]
    assert entries[0].parity.worst.max_abs <= 1e-4
