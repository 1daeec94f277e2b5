"""The inference libraries report nothing to their makers."""

import os
import subprocess
import sys

import pytest


def test_nothing_is_reported_home(tmp_path):
    """ONNX Runtime begins with a file for the session of its reports."""
    code = "import hfdn_deploy, onnxruntime; hfdn_deploy.Upscaler.load(4, 'onnxruntime')"
    hidden = ("ORT_DISABLE_TELEMETRY", "CI", "GITHUB_ACTIONS")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    environment["TMPDIR"] = str(tmp_path)
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert not list(tmp_path.iterdir())
    code = "import onnxruntime"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert list(tmp_path.iterdir())


def test_openvino_reports_nothing_either(tmp_path):
    """It begins with files in the user's home folder."""
    pytest.importorskip("openvino_telemetry")
    code = (
        "import hfdn_deploy, sys; hfdn_deploy.Upscaler.load(4, 'openvino')\n"
        "assert 'openvino_telemetry' not in sys.modules\n"
        "import openvino_telemetry"  # who wants it has it
    )
    environment = {key: value for key, value in os.environ.items() if key != "CI"}
    environment["HOME"] = str(tmp_path)
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert not (tmp_path / "intel").exists()
