"""Servers and slim containers lack the libraries that opencv-python is linked to."""

import json
import os
import subprocess
import sys

import pytest

from hfdn_deploy import __version__
from hfdn_deploy.images import write_image
from tests.helpers.paths import ROOT

MISSING = "libGL.so.1: cannot open shared object file: No such file or directory"


@pytest.fixture
def run(tmp_path, photo):
    """Run `hfdn` in a folder with an image, with an OpenCV that cannot be imported."""
    write_image(tmp_path / "a.png", photo)

    def run(*arguments, program=("-m", "hfdn_deploy"), reason=MISSING):
        package = tmp_path / "path" / "cv2"
        package.mkdir(parents=True, exist_ok=True)
        (package / "__init__.py").write_text(f"raise ImportError({reason!r})\n")
        return subprocess.run(
            [sys.executable, *program, *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": f"{package.parent}{os.pathsep}{ROOT}"},
            capture_output=True,
            text=True,
        )

    return run


@pytest.mark.parametrize("command", ["upscale a.png -o b.png", "serve --port 0", "doctor"])
def test_one_sentence_says_what_to_install(run, command):
    ran = run(*command.split())
    assert (ran.returncode, ran.stderr.count("\n")) == (4, 1)
    assert ran.stderr == (
        f"error: OpenCV cannot be imported ({MISSING}); apt-get install libgl1, or put "
        "opencv-python-headless in opencv-python's place: pip uninstall opencv-python "
        "opencv-python-headless, then pip install opencv-python-headless.\n"
    )


def test_a_program_reads_it(run):
    ran = run("upscale", "a.png", "-o", "b.png", "--json")
    assert ran.returncode == json.loads(ran.stdout)["exit_code"] == 4
    assert MISSING in json.loads(ran.stdout)["error"]


def test_python_raises_an_error_of_ours(run):
    script = (
        "import hfdn_deploy\n"
        "try: hfdn_deploy.Upscaler\n"
        "except hfdn_deploy.BackendError as error: print(error.exit_code)"
    )
    assert run(program=("-c", script)).stdout == "4\n"


@pytest.mark.parametrize("command", ["--version", "upscale --help"])
def test_what_needs_no_opencv_works_without(run, command):
    ran = run(*command.split())
    assert (ran.returncode, ran.stderr) == (0, "")
    assert command != "--version" or ran.stdout == f"{__version__}\n"


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        ("libgthread-2.0.so.0: cannot open shared object file", "apt-get install libglib2.0-0,"),
        ("numpy.core.multiarray failed to import", "pip install --upgrade --force-reinstall open"),
    ],
)
def test_other_reasons(run, reason, advice):
    ran = run("info", "a.png", reason=reason)
    assert ran.returncode == 4
    assert ran.stderr.startswith(f"error: OpenCV cannot be imported ({reason}); {advice}")
