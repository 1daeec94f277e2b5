import subprocess
import sys

import pytest

from hfdn_deploy import __version__
from hfdn_deploy.cli import main
from tests.helpers.paths import ROOT

HEAVY = {"numpy", "cv2", "onnx", "PIL", "onnxruntime", "torch", "fastapi", "ray", "tqdm"}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ("--help", 0, "measure latency, quality and memory on this machine"),
        ("", 0, "hfdn upscale photo.png"),
        ("--version", 0, __version__),
        ("upscale", 2, "required: IN, -o/--output"),
        ("upscale --precision fp99 a -o b", 2, "invalid choice: 'fp99'"),
        ("upscale --help", 0, "--cluster {local,ray}"),
        ("build x4 --flavour none", 2, "invalid choice: 'none'"),
        ("bench x4 --rounds 0", 2, "is not a whole number above 0"),
        ("serve --port x", 2, "'x' is not a port"),
        ("info missing.png", 2, "missing.png does not exist"),
        ("inspect", 2, "required: ENGINE"),
        ("completion --help", 0, "hfdn completion bash > ~/.local/share/bash-completion"),
        ("upscale a -o b -q -v", 2, "argument -v/--verbose: not allowed with argument -q/--quiet"),
        ("doctor --xyz", 2, "unrecognized arguments: --xyz"),
    ],
)
def test_help_and_refusals_import_nothing_heavy(arguments, code, words):
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "hfdn_deploy", *arguments.split()],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    lines = ran.stderr.splitlines()
    imported = {line.rpartition("|")[2].strip() for line in lines if "import time:" in line}
    assert "hfdn_deploy" in imported
    assert not HEAVY & imported
    assert ran.returncode == code
    assert words in ran.stdout + ran.stderr


@pytest.mark.parametrize("argv", [["xyz"], ["--"], ["--xyz"]])
def test_an_unknown_command_is_refused(argv):
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
