"""The content of the wheel, and the message if an extra is missing."""

import shutil
import subprocess
import sys
from pathlib import PurePosixPath
from zipfile import ZipFile

import pytest

from hfdn_deploy.images import write_image
from tests.helpers.paths import ROOT


@pytest.mark.slow
def test_the_wheel_holds_the_runtime_and_its_data_alone(tmp_path):
    # Leftovers of one build end up in the next, so build in a new folder, from the files that the
    # Dockerfile copies.
    source = tmp_path / "source"
    source.mkdir()
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line.startswith("!"):
            path = ROOT / line[1:]
            if path.is_dir():
                shutil.copytree(
                    path, source / path.name, ignore=shutil.ignore_patterns("__pycache__")
                )
            else:
                shutil.copy(path, source)
    assert (source / "constraints.txt").exists()
    command = [sys.executable, "-m", "pip", "wheel", source, "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--quiet", "--wheel-dir", tmp_path], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = [PurePosixPath(name) for name in ZipFile(wheel).namelist()]
    assert {name.parts[0].split("-")[0] for name in names} == {"hfdn_deploy"}
    runtime = ROOT / "hfdn_deploy"
    assert {name for name in names if name.parts[0] == "hfdn_deploy"} == {
        PurePosixPath(path.relative_to(ROOT))
        for path in runtime.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_without_onnx_runtime_one_sentence_says_what_to_install(tmp_path, photo):
    """Simulates an installation without extras."""
    write_image(tmp_path / "photo.png", photo)
    code = (
        "import sys; sys.modules.update(onnxruntime=None, openvino=None)\n"
        "from hfdn_deploy.cli import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    for options in ([], ["--backend", "onnxruntime"]):
        ran = subprocess.run(
            [sys.executable, "-c", code, "upscale", "photo.png", "-o", "out.png", *options],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ran.returncode == 4
        assert ran.stderr.startswith("error: ")
        assert ran.stderr.count("\n") == 1
        assert "ONNX Runtime is not installed: pip install 'hfdn-deploy[cpu]'" in ran.stderr
