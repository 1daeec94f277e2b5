"""`scripts/gpu_check.sh` from start to end on a simulated GPU."""

import json
import os
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from tests.helpers.gpu import real_gpu
from tests.helpers.paths import ROOT

pytest.importorskip("cuda.bindings", reason="the extra rtx is not installed")
pytest.importorskip("torch", reason="the extra torch is not installed")


@pytest.mark.slow
@pytest.mark.skipif(real_gpu() is not None, reason="it is simulated")
def test_one_command_writes_all_files(tmp_path):
    (tmp_path / "wheels").mkdir()
    # The other GPU tests run beside this one anyway.
    environment = os.environ | {"PYTHON": sys.executable, "PYTEST_ADDOPTS": "-k images"}
    environment = {name: value for name, value in environment.items() if "XDIST" not in name}
    command = ["scripts/gpu_check.sh", tmp_path / "wheels", tmp_path / "out", "--simulate"]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=500)
    out = tmp_path / "out"
    assert "problems: none" in (out / "doctor.txt").read_text()
    suite = ElementTree.parse(out / "junit.xml").getroot()[0]
    assert int(suite.get("tests")) > int(suite.get("skipped")) + 5
    assert (suite.get("failures"), suite.get("errors")) == ("0", "0")
    assert " passed" in (out / "tests.txt").read_text().splitlines()[-1]
    report = (out / "report.md").read_text()
    assert report.startswith("# HFDN on a simulated GPU")
    assert "Failed" not in report
    results = json.loads((out / "results.json").read_text())
    assert "torch.compile fp16 16x9" in results["x2 in PyTorch"]
    rows = results["x2 on the backends"]["rows"]
    assert [row["precision"] for row in rows] == ["fp32", "fp16", "int8"]
    assert "| int8 | 16×9 | " in report
