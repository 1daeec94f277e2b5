import shutil
from dataclasses import replace

import pytest

from hfdn_deploy import BackendError, Upscaler, backends
from hfdn_deploy.backends import Obstacle, open_backend, openvino
from hfdn_deploy.backends import onnxruntime as ort_backend
from hfdn_deploy.bundle import PRECISIONS, Bundle, pretrained
from hfdn_deploy.graph import FOR_OPENVINO
from hfdn_deploy.options import ModelOptions
from tests.helpers.paths import ROOT


@pytest.fixture
def no_openvino(monkeypatch):
    missing = Obstacle("it is not installed", "do")
    monkeypatch.setattr(openvino.OpenVINOBackend, "why_unavailable", lambda: missing)


@pytest.mark.parametrize("model", [2, "x2"])
def test_the_bundles_of_the_package_have_names(model):
    for allowed in (True, False):
        bundle = backends.open_model(ModelOptions(model=model, allow_ungated=allowed))
        assert (bundle.manifest.scale, bundle.allow_ungated) == (2, allowed)


def opened(*arguments):
    """Return the precision that runs and the description of the choice."""
    backend, choice = open_backend(*arguments)
    backend.close()
    return backend.precision, choice


def test_automatic_precision_is_the_fastest_measured():
    assert openvino.OpenVINOBackend.why_unavailable() is None
    precision, choice = opened("auto", pretrained(2), "auto")
    assert precision == "int8"
    assert choice.startswith("openvino in int8 (not cuda: ")
    assert choice.endswith("; the fastest measured of those left)")
    # A named backend is not replaced, and is refused if it cannot run.
    assert opened("onnxruntime", pretrained(2), "auto") == (
        "int8", "onnxruntime in int8 (the fastest measured of those left)",
    )  # fmt: skip
    with pytest.raises(BackendError, match="install onnxruntime-gpu"):
        opened("cuda", pretrained(2), "auto")


@pytest.mark.parametrize(
    ("saturate", "found"),
    [
        (False, "onnxruntime in int8 (not cuda: "),
        (True, "onnxruntime in fp32 (not cuda: "),
    ],
)
def test_exact_products_are_no_gain_in_onnx_runtime(monkeypatch, no_openvino, saturate, found):
    monkeypatch.setattr(ort_backend, "eight_bit_products_saturate", lambda: saturate)
    _, choice = opened("auto", pretrained(2), "auto")
    assert choice.startswith(found)
    assert "; not openvino: it is not installed; " in choice
    assert ("; not onnxruntime in int8: 8-bit products saturate on this CPU" in choice) == saturate


def test_automatic_precision_passes_over_what_failed_its_gates(tmp_path, edit_manifest):
    copy = shutil.copytree(pretrained(2).path, tmp_path / "copy")
    for name in FOR_OPENVINO:
        edit_manifest(copy, lambda m, name=name: m["derived"][name].update(passed=False))
    precision, choice = opened("auto", Bundle(copy), "auto")
    # At ×2, bf16 loses too much quality.
    assert (precision, choice.partition(" (")[0]) == ("int8", "onnxruntime in int8")
    for words in (
        "; not openvino in int8: int8-openvino",
        "did not pass its gates: it failed the comparison with PyTorch; ",
        "; not openvino in bf16: ",
    ):
        assert words in choice
    edit_manifest(copy, lambda m: m["files"].pop(-1))  # int8-cpu
    precision, choice = opened("auto", Bundle(copy), "auto")
    assert (precision, choice.partition(" (")[0]) == ("fp32", "openvino in fp32")
    assert "; not onnxruntime in int8: the bundle has no such graph; " in choice


def test_automatic_precision_of_a_checkpoint_is_its_only_one():
    pytest.importorskip("torch", exc_type=ModuleNotFoundError)
    path = ROOT / "checkpoints" / "hfdn_x2.safetensors"
    precision, choice = opened("auto", path, "auto")
    assert (precision, choice.partition(" (")[0]) == ("fp32", "torch in fp32")


@pytest.mark.parametrize("name", ["tensorrt", "rtx-ep"])
def test_what_must_be_requested_is_never_automatic(name):
    for precision in ("auto", "fp16"):
        assert name not in [spec.name for spec, _ in backends.by_speed("auto", precision)]
    assert [p for _, p in backends.by_speed(name, "auto")] == ["fp16", "fp32", "int8"]


def test_two_networks_may_run_in_two_precisions(monkeypatch):
    if openvino.why_not("bf16"):
        pytest.skip("this CPU has no bf16 instructions")
    monkeypatch.delitem(openvino._COMPUTES, "int8")
    with Upscaler.load(8, precision="auto") as up:
        x4, x2 = up.choice.split("; ×2: ")
    assert x4.startswith("×4: openvino in bf16 (")
    assert x2.startswith("onnxruntime in int8 (")
    for choice in (x4, x2):
        assert "; not openvino in int8: openvino runs fp32, bf16 on a CPU, not int8; " in choice


def test_a_backend_without_a_place_takes_the_precisions_in_order(monkeypatch):
    spec = replace(backends.BACKENDS["onnxruntime"], name="mine")
    monkeypatch.setitem(backends.BACKENDS, "mine", spec)
    assert backends.by_speed("mine", "auto") == [(spec, one) for one in PRECISIONS]
    assert backends.by_speed("mine", "fp16") == [(spec, "fp16")]
    assert spec not in [other for other, _ in backends.by_speed("auto", "auto")]
