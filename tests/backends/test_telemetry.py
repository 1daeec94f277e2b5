"""The inference libraries send no telemetry."""

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.version import Version

OURS = (
    "import sys, numpy as np, hfdn_deploy\n"
    "with hfdn_deploy.Upscaler.load(2, {library!r}, 'int8') as up:\n"
    "    assert up(np.zeros((4, 5), np.uint8)).shape == (8, 10)\n"
    "assert 'openvino_telemetry' not in sys.modules\n"
)
# Variables of the environment that also disable telemetry.
HIDDEN = ("ORT_DISABLE_TELEMETRY", "CI", "GITHUB_ACTIONS")


def traced(code: str, folder: Path) -> tuple[list[str], list[str]]:
    """Run Python with its home and temporary folder in a folder.

    Returns:
        The system calls of the process and its children that connect or send over IP, none if
        strace cannot run; and the files that they left.
    """
    home, log = folder / "home", folder / "calls"
    home.mkdir(exist_ok=True)
    environment = {key: value for key, value in os.environ.items() if key not in HIDDEN}
    environment |= {"HOME": str(home), "TMPDIR": str(home)}
    calls = "connect,sendto,sendmsg,sendmmsg"
    watch = ["strace", "-f", "-qq", "-e", f"trace={calls}", "-o", str(log)]
    subprocess.run(
        [*(watch if _can_trace() else []), sys.executable, "-c", code],
        env={key: value for key, value in environment.items() if key != "XDG_CACHE_HOME"},
        check=True,
    )
    lines = log.read_text().splitlines() if log.exists() else []
    return [line for line in lines if "AF_INET" in line], [
        str(path.relative_to(home)) for path in home.rglob("*")
    ]


def _can_trace() -> bool:
    """Return whether strace is installed and allowed to trace."""
    command = ["strace", "-qq", "-o", os.devnull, "true"]
    return bool(shutil.which("strace")) and not subprocess.run(command, check=False).returncode


@pytest.mark.slow
@pytest.mark.parametrize(("library", "leaves"), [("onnxruntime", ".ses"), ("openvino", "intel")])
def test_nothing_is_reported_home(tmp_path, library, leaves):
    """By default, OpenVINO looks up a host and writes a folder, ONNX Runtime a session file."""
    telemetry = "openvino_telemetry" if library == "openvino" else "onnxruntime"
    pytest.importorskip(telemetry)
    # Telemetry itself can still be imported.
    code = OURS.format(library=library) + f"import {telemetry}"
    assert traced(code, tmp_path) == ([], [])
    # The libraries report from a thread that may start late on a busy machine.
    looked_up, left = traced(f"import time, {library}\ntime.sleep(3)", tmp_path)
    # ONNX Runtime reports since 1.29.
    reports = library == "openvino" or Version(version(library)) >= Version("1.29")
    assert (leaves in left) == reports
    assert bool(looked_up) == (library == "openvino" and _can_trace())
