"""What `hfdn doctor` finds in an environment that is not as setup.cfg declares."""

import json
import os
import subprocess
import sys
from importlib.metadata import requires

import pytest
from packaging.requirements import Requirement

from tests.helpers.paths import ROOT


@pytest.fixture
def problems(tmp_path):
    """Run the command with what was put before all other packages."""

    def problems():
        ran = subprocess.run(
            [sys.executable, "-m", "hfdn_deploy", "doctor", "--json"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            check=True,
        )
        return json.loads(ran.stdout)["problems"]

    return problems


def install(folder, name, version):
    metadata = folder / f"{name.replace('-', '_')}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


@pytest.mark.parametrize(
    ("name", "version"),
    [("onnx", "1.15.0"), ("onnxruntime", "1.18.1"), ("openvino", "2024.6.0"), ("uvicorn", "99.0")],
)
def test_versions_that_are_not_declared(tmp_path, problems, name, version):
    install(tmp_path, name, version)
    declared = [Requirement(text) for text in requires("hfdn-deploy")]
    wanted = next(f"{name}{one.specifier}" for one in declared if one.name == name)
    assert problems() == [
        f"{name} is {version}, and hfdn-deploy needs {wanted}: pip install '{wanted}'"
    ]


def test_opencv_with_windows_has_the_bound_of_the_one_without(tmp_path, problems):
    install(tmp_path, "opencv-python", "4.9.0.80")
    both, old = problems()
    assert both.startswith("opencv-python and opencv-python-headless are both installed and over")
    assert old.startswith("opencv-python is 4.9.0.80, and hfdn-deploy needs opencv-python>=")


@pytest.mark.parametrize(
    ("package", "title"), [("openvino", "OpenVINO"), ("torch", "PyTorch"), ("onnxruntime", "ONNX")]
)
def test_a_library_that_is_installed_and_does_not_load(tmp_path, problems, package, title):
    install(tmp_path, package, "9999.0")
    reason = "libtbb.so.12: cannot open shared object file"
    (tmp_path / f"{package}.py").write_text(f"raise ImportError({reason!r})\n")
    (problem,) = problems()
    assert problem.startswith(title)
    assert f"cannot be imported ({reason}): pip " in problem


def test_a_library_that_is_not_installed_is_no_problem(tmp_path, problems):
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.metadata as metadata, sys\n"
        "sys.modules['openvino'] = None\n"
        "found = metadata.version\n"
        "def version(name):\n"
        "    if name == 'openvino':\n"
        "        raise metadata.PackageNotFoundError(name)\n"
        "    return found(name)\n"
        "metadata.version = version\n"
    )
    assert problems() == []
