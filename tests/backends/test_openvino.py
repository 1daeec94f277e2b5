import numpy as np
import onnx
import pytest

from export.bf16 import emulate_bf16
from export.sessions import candidate
from hfdn_deploy import BackendError, GateError, Upscaler, backends
from hfdn_deploy.backends import open_backend, openvino
from hfdn_deploy.bundle import Bundle, pretrained, pretrained_scales
from hfdn_deploy.colour import split
from hfdn_deploy.quality import PEAK

needs_bf16 = pytest.mark.skipif(
    openvino.why_not("bf16") is not None, reason="this CPU has no bf16 instructions"
)


@pytest.fixture(scope="module")
def lr(photo):
    return np.ascontiguousarray(split(photo).luma[None, None])


def levels(a, b):
    """Largest and root mean square difference in levels of 255."""
    difference = PEAK * (a.astype(np.float64) - b)
    return np.abs(difference).max(), np.sqrt(np.mean(difference**2))


@pytest.mark.parametrize("scale", pretrained_scales())
def test_fp32_equals_onnx_runtime(scale, lr):
    bundle = pretrained(scale)
    expected = candidate(onnx.load_model_from_string(bundle.read_model("fp32")))
    backend = openvino.OpenVINOBackend(bundle, "fp32")
    assert set(openvino.computed_in(backend.compiled)) == {"f32"}
    for x in (lr, lr[..., :1, :1], np.concatenate([lr, 1 - lr])):
        assert levels(backend.run(np.ascontiguousarray(x)), expected(x))[0] < 1e-3


@pytest.mark.parametrize("scale", pretrained_scales())
def test_int8_computes_in_integers_what_onnx_runtime_computes(scale, lr):
    bundle = pretrained(scale)
    full, quantized = (
        candidate(onnx.load_model_from_string(bundle.read_model(name)))(lr)
        for name in ("fp32", "int8-openvino")
    )
    backend = openvino.OpenVINOBackend(bundle, "int8")
    layers = bundle.manifest.quantization.layers
    counts = openvino.computed_in(backend.compiled)
    assert counts["u8"] >= len(layers)
    # A tie that rounds the other way is a step further on; but much nearer than to fp32.
    apart = levels(backend.run(lr), quantized)[1]
    assert apart < 0.5 * levels(quantized, full)[1]


@needs_bf16
@pytest.mark.parametrize("scale", pretrained_scales())
def test_bf16_is_what_the_gate_judges(scale, lr):
    bundle = pretrained(scale)
    model = onnx.load_model_from_string(bundle.read_model("fp32"))
    full, emulated = candidate(model)(lr), candidate(emulate_bf16(model))(lr)
    backend = openvino.OpenVINOBackend(bundle, "bf16")
    assert set(openvino.computed_in(backend.compiled)) == {"bf16"}
    got = backend.run(lr)
    assert levels(got, full)[1] > 0.1
    assert levels(got, emulated)[1] < 0.25 * levels(got, full)[1]


def test_what_it_has_not_is_refused(monkeypatch, bundle):
    with pytest.raises(BackendError, match="not fp16"):
        Upscaler.load(4, "openvino", "fp16")
    with pytest.raises(BackendError, match="bf16 runs on backend openvino alone"):
        Upscaler.load(4, "onnxruntime", "bf16")
    monkeypatch.setattr(openvino, "_COMPUTES", {"fp32": ("bf16",)})
    with pytest.raises(BackendError, match=r"would compute 0 of \d+ convolutions in fp32"):
        openvino.OpenVINOBackend(Bundle(bundle), "fp32")


def test_bf16_needs_its_own_gate(tmp_path, bundle, edit_manifest):
    changed = tmp_path / "bundle"
    changed.mkdir()
    for path in bundle.iterdir():
        (changed / path.name).write_bytes(path.read_bytes())
    edit_manifest(changed, lambda values: values.update(bf16=None))
    with pytest.raises(GateError, match=r"bf16 of .* did not pass its gates"):
        Bundle(changed).check_bf16()
    Bundle(changed, allow_ungated=True).check_bf16()


def test_auto_takes_the_fastest_that_is_installed_and_passed(monkeypatch):
    for precision, (first, *_) in backends.FASTEST_ON_CPU.items():
        if first == "openvino" and openvino.why_not(precision):
            continue
        opened, choice = open_backend("auto", pretrained(4), precision)
        assert opened.name == first
        assert "the fastest measured of those left" in choice
    monkeypatch.setattr(openvino, "why_unavailable", lambda name: "it is not installed: do")
    opened, choice = open_backend("auto", pretrained(4), "int8")
    assert opened.name == "onnxruntime"
    assert "not openvino: it is not installed" in choice
