import platform
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from hfdn_deploy.backends import probes, session_options, why_unavailable
from hfdn_deploy.backends.onnxruntime import OnnxRuntimeSessions
from hfdn_deploy.bundle import pretrained
from hfdn_deploy.engines import device_here
from hfdn_deploy.errors import BackendError
from hfdn_deploy.upscaler import Upscaler

CPUINFO = Path("/proc/cpuinfo")


@pytest.mark.skipif(
    platform.machine() != "x86_64" or not CPUINFO.exists(), reason="reads the flags of an x86"
)
@pytest.mark.parametrize(
    "probe",
    [probes.eight_bit_products_saturate, probes.eight_bit_products_saturate_in_openvino],
)
def test_eight_bit_products_saturate_without_vnni_alone(probe):
    flags = CPUINFO.read_text().split()
    assert probe() == (not {"avx512_vnni", "avx_vnni"} & set(flags))


def test_the_options_give_exact_eight_bit_products():
    largest = ort.InferenceSession(probes._largest_products(), session_options())
    np.testing.assert_array_equal(*largest.run(None, {"x": probes._ALL_255}), 200)
    exact = ort.SessionOptions()
    exact.add_session_config_entry("session.x64quantprecision", "1")
    data = pretrained(4).read_model("int8-cpu")
    lr = np.random.default_rng(1).random((1, 1, 40, 50), np.float32)
    results = [
        ort.InferenceSession(data, options).run(None, {"lr": lr})[0]
        for options in (exact, session_options())
    ]
    assert (results[0] == results[1]).all()


def test_the_plugin_for_rtx_is_refused_without_a_gpu():
    if device_here():
        pytest.skip("there is a GPU")
    reason = why_unavailable("rtx-ep")
    assert "plugin for TensorRT-RTX" in str(reason)
    with pytest.raises(BackendError, match="not rtx-ep: "):
        Upscaler.load(4, backend="rtx-ep")


def test_threads_of_the_environment(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert session_options().intra_op_num_threads == 0
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert session_options().intra_op_num_threads == 3


class WithoutKernels(OnnxRuntimeSessions):
    """Sessions on a provider that every build has and that has no kernels."""

    name = "cuda"
    provider = "AzureExecutionProvider"


def test_work_that_a_provider_would_leave_to_the_cpu_is_refused():
    if WithoutKernels.provider not in ort.get_available_providers():
        pytest.skip(f"this ONNX Runtime has no {WithoutKernels.provider}")
    obstacle = WithoutKernels.why_unavailable()
    assert "AzureExecutionProvider of ONNX Runtime" in obstacle.reason
    assert "would leave work to the CPU" in obstacle.reason
    assert "use backend onnxruntime" in obstacle.advice
