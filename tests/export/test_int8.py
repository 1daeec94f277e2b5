"""INT8 from the checkpoint to the bundle, its gates, and tampered graphs."""

import hashlib
import json
import shutil

import numpy as np
import onnx
import pytest

from benchmarks.baseline import quantize_plainly
from export import exporter, sensitivity, tracing
from export.calibration import load_pictures
from export.cli import main
from export.parity import expected_loss
from export.sessions import candidate
from hfdn_deploy import Upscaler
from hfdn_deploy.bench import calibration_photographs, psnr
from hfdn_deploy.bundle import Bundle, pretrained
from hfdn_deploy.errors import BundleError, GateError, InputError
from hfdn_deploy.images import write_image
from tests.helpers.graphs import damage, load_graph, scale_by_four, set_nan
from tests.helpers.paths import ROOT
from tests.helpers.small_grid import make_small

X2, X4 = (ROOT / "checkpoints" / f"hfdn_x{scale}.safetensors" for scale in (2, 4))


def reuse_graphs(patch):
    """Take the graphs of the shipped bundles instead of tracing their checkpoints again."""
    patch.setattr(tracing, "to_onnx", lambda network: load_graph("fp32", network.config.scale))


@pytest.fixture
def traced(monkeypatch):
    reuse_graphs(monkeypatch)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Export ×2 with INT8, calibrated on small images, and return the folder with its report."""
    folder = tmp_path_factory.mktemp("int8")
    (folder / "pictures").mkdir()
    for pictures in calibration_photographs():
        for name, picture in list(pictures.items())[::2]:
            write_image(folder / "pictures" / f"{name}.png", picture[:80, 40:120])
    command = [str(X2), "-o", str(folder / "x2"), "--precisions", "fp32", "int8"]
    options = ["--calibration", str(folder / "pictures"), "--report", str(folder / "report")]
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        reuse_graphs(patch)
        assert main([*command, *options, "--budget-db", "0.2"]) == 0
    return folder


@pytest.mark.slow
def test_the_chosen_layers_are_the_least_that_are_enough_or_the_most_within_the_budget(exported):
    study = json.loads((exported / "report" / "hfdn_x2.json").read_text())
    quantization = Bundle(exported / "x2").manifest.quantization
    losses = [max(choice["losses"].values()) for choice in study["choices"]]
    shares = [choice["macs_share"] for choice in study["choices"]]
    enough = max(i for i, share in enumerate(shares) if share >= sensitivity.ENOUGH)
    within = next(i for i, loss in enumerate(losses) if i >= enough and loss <= 0.2)
    assert shares == sorted(shares, reverse=True)
    assert (shares[0], shares[-1], losses[-1]) == (pytest.approx(1), 0, pytest.approx(0, abs=1e-6))
    assert quantization.macs_share == shares[within]
    given_up = {choice["given_up"] for choice in study["choices"][: within + 1]}
    assert set(quantization.layers) == {x["name"] for x in study["layers"]} - given_up
    costs = [max(x["losses"].values()) / x["macs_share"] for x in study["layers"]]
    assert costs == sorted(costs, reverse=True)
    assert study["chosen"]["macs_share"] == quantization.macs_share
    assert max(study["chosen"]["losses"].values()) <= 0.2
    assert study["choices"][-1]["rms_levels"]["int8"] < 1e-3 < study["chosen"]["rms_levels"]["int8"]
    text = (exported / "report" / "hfdn_x2.md").read_text()
    assert text.count("\n| ") > 35
    assert (
        f"Weights (SHA-256 of the checkpoint): {hashlib.sha256(X2.read_bytes()).hexdigest()}"
        in text
    )
    assert (exported / "report" / "hfdn_x2.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.usefixtures("small_grid", "traced")
def test_a_rebuild_needs_no_pictures(exported, tmp_path, capsys):
    command = [str(X2), "-o", str(tmp_path / "again"), "--precisions", "fp32", "int8"]
    assert main([*command, "--calibration", str(exported / "x2")]) == 0
    old, new = Bundle(exported / "x2").manifest, Bundle(tmp_path / "again").manifest
    assert new.quantization == old.quantization
    assert [f.sha256 for f in new.files] == [f.sha256 for f in old.files]
    options = ["-o", str(tmp_path / "x4"), "--precisions", "int8", "--calibration"]
    assert main([str(X4), *options, str(exported / "x2")]) == 2
    assert "calibrated for another checkpoint" in capsys.readouterr().err
    assert not (tmp_path / "x4").exists()


@pytest.mark.usefixtures("small_grid", "traced")
@pytest.mark.parametrize("graph", ["int8", "int8-cpu"])
@pytest.mark.parametrize(
    ("layer", "constant", "change"),
    [
        ("hfms.1.adu.convs.2", "weight.scale", scale_by_four),
        ("heads.m.conv1", "weight.scale", set_nan),
    ],
)
def test_a_tampered_graph_is_refused_by_verify(
    tmp_path, edit_manifest, capsys, graph, layer, constant, change
):
    copy = shutil.copytree(pretrained(4).path, tmp_path / "copy")
    path = copy / f"{graph}.onnx"
    model = onnx.load(path)
    damage(model, f"{layer}.{constant}", change)
    path.write_bytes(model.SerializeToString())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()

    def only_this(manifest):
        manifest["files"] = [f for f in manifest["files"] if f["graph"] == graph]
        manifest["files"][0].update(sha256=digest)

    edit_manifest(copy, only_this)
    assert main(["verify", str(copy), str(X4)]) == 3
    said = capsys.readouterr().err
    assert f"most departing node: {layer} (" in said or f"NaN or infinity in {layer}." in said


@pytest.mark.usefixtures("small_grid", "traced")
def test_a_tampered_graph_is_refused_by_export(exported, tmp_path, monkeypatch, capsys):
    def tampered(*args):
        model = quantize(*args)
        damage(model, "hfms.1.adu.convs.2.weight.scale", scale_by_four)
        return model

    quantize = exporter.quantize
    monkeypatch.setattr(exporter, "quantize", tampered)
    command = [str(X2), "-o", str(tmp_path / "x2"), "--precisions", "int8"]
    assert main([*command, "--calibration", str(exported / "x2")]) == 3
    assert "most departing node: hfms.1.adu.convs.2 (" in capsys.readouterr().err
    assert not (tmp_path / "x2").exists()


@pytest.mark.slow
@pytest.mark.parametrize("graph", ["int8", "int8-cpu"])
def test_int8_loses_half_of_what_plain_quantisation_does(graph):
    bundle = pretrained(4)
    pictures = load_pictures(None, 4)
    full = bundle.read_model("fp32")
    plain = quantize_plainly(full, graph, [pair.lr for pair in pictures.calibration])
    losses = []
    reference = candidate(onnx.load_model_from_string(full))
    for data in (bundle.read_model(graph), plain):
        run = candidate(onnx.load_model_from_string(data))
        losses.append(
            np.mean(
                [
                    expected_loss(run(p.lr), reference(p.lr), p.original, 4)
                    for p in pictures.held_out
                ]
            )
        )
    assert 0 < losses[0] < 0.5 * losses[1]
    assert losses[0] < 0.05


def test_int8_on_a_cpu_is_the_graph_for_cpus(photo):
    luma = np.asarray(photo[..., 1] / 255, np.float32)
    with Upscaler.load(4) as full, Upscaler.load(4, "onnxruntime", "int8") as up:
        expected, got = full.upscale_luma(luma), up.upscale_luma(luma)
    direct = candidate(onnx.load_model_from_string(pretrained(4).read_model("int8-cpu")))
    np.testing.assert_array_equal(got, direct(luma[None, None])[0, 0])
    assert 40 < psnr(expected * 255, got * 255) < 70
    with pytest.raises(InputError, match="no precision 'int8-cpu'"):
        Upscaler.load(4, precision="int8-cpu")


def test_an_ungated_graph_runs_only_if_allowed(tmp_path, edit_manifest, photo, caplog):
    copy = shutil.copytree(pretrained(4).path, tmp_path / "copy")
    edit_manifest(copy, lambda m: m["files"][3].update(parity=None))
    with pytest.raises(GateError, match=r"int8-cpu.onnx did not pass its gates: it was not"):
        Upscaler.load(copy, "onnxruntime", "int8")
    Upscaler.load(copy, precision="fp16").close()
    with Upscaler.load(copy, "onnxruntime", "int8", allow_ungated=True) as up:
        assert up(photo).shape == (240, 332, 3)
    assert "it is used, as ungated graphs are allowed" in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        lambda q: q.update(macs_share=0.5),
        lambda q: q.update(layers=["nothing"]),
        lambda q: q["channel_means"].popitem(),
        lambda q: q["channel_means"].update({"hfms.1.adu.concat": [0.0]}),
        lambda q: q["ranges"].popitem(),
        lambda q: q["ranges"]["int8"]["limits"].popitem(),
        lambda q: q["ranges"]["int8"]["channel_scales"].popitem(),
        lambda q: q["ranges"]["int8-cpu"]["channel_scales"]["fusion"].pop(),
        lambda q: q["ranges"]["int8-cpu"]["channel_scales"].update(shallow2=[2.0] * 48),
        lambda q: q["ranges"]["int8-cpu"]["channel_scales"].update(last=[2.0]),
        lambda q: q["ranges"]["int8"]["channel_scales"]["hfms.0.eu.conv1"].__setitem__(0, -1.0),
    ],
)
def test_a_calibration_that_does_not_fit_is_refused(tmp_path, edit_manifest, change):
    copy = shutil.copytree(pretrained(4).path, tmp_path / "copy")
    edit_manifest(copy, lambda m: change(m["quantization"]))
    bundle = Bundle(copy)
    full = onnx.load_model_from_string(bundle.read_model("fp32"))
    exporter.check_quantization(full, pretrained(4).manifest.quantization, copy)
    with pytest.raises(BundleError, match="calibration that does not fit"):
        exporter.check_quantization(full, bundle.manifest.quantization, copy)


@pytest.mark.usefixtures("small_grid", "traced")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda q: q["ranges"]["int8"]["limits"].update(concat=[-1.0, 9.5]),
            "concat.scale in .* is not what the calibration gives",
        ),
        (lambda q: q.update(budget_db=50.0), "describes int8.onnx wrongly"),
    ],
)
def test_verify_checks_the_calibration(tmp_path, edit_manifest, change, message):
    copy = shutil.copytree(pretrained(4).path, tmp_path / "copy")
    edit_manifest(copy, lambda m: change(m["quantization"]))
    edit_manifest(copy, lambda m: m.update(files=[f for f in m["files"] if f["graph"] == "int8"]))
    with pytest.raises(BundleError, match=message):
        exporter.verify_bundle(copy, X4)


@pytest.mark.usefixtures("traced")
def test_options_that_would_be_ignored_are_refused(tmp_path, capsys):
    command = [str(X4), "-o", str(tmp_path / "x4"), "--budget-db", "0.1"]
    with pytest.raises(SystemExit, match="2"):
        main(command)
    assert "--budget-db is for INT8" in capsys.readouterr().err
    bundle = str(pretrained(4).path)
    assert main([*command, "--precisions", "int8", "--calibration", bundle]) == 2
    assert "has a calibration already" in capsys.readouterr().err
    missing = [str(X4), "-o", str(tmp_path / "x4"), "--precisions", "int8", "--calibration", "no"]
    assert main(missing) == 2
    # Tracing would have been announced.
    assert capsys.readouterr().err == (
        "error: no is not a folder; name a folder of images, or a bundle.\n"
    )


@pytest.mark.usefixtures("traced")
def test_a_bundle_without_int8_cannot_lend_its_calibration(bundle, checkpoint, tmp_path):
    with pytest.raises(BundleError, match="no INT8 graphs whose calibration"):
        exporter.export_bundle(checkpoint, tmp_path / "b", ("int8",), calibration=bundle)
