"""The command line `python -m export`."""

import subprocess
import sys

from export.cli import main
from hfdn_deploy.bundle import pretrained
from tests.helpers.paths import ROOT


def test_command_line_errors(tmp_path, capsys):
    missing = str(tmp_path / "a.safetensors")
    assert main([missing, "-o", str(tmp_path / "b")]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_without_pytorch_a_sentence_says_what_to_install(tmp_path):
    code = (
        "import sys; sys.modules['torch'] = None\nfrom export.cli import main\nsys.exit(main({}))"
    )
    checkpoint = ROOT / "checkpoints" / "hfdn_x2.safetensors"
    for command, exit_code in (
        ([checkpoint, "-o", tmp_path / "x2"], 4),
        (["verify", pretrained(2).path, checkpoint], 4),
        (["image", "x2", "-o", tmp_path / "x2.onnx"], 0),
    ):
        run = subprocess.run(
            [sys.executable, "-c", code.format(list(map(str, command)))],
            cwd=ROOT, capture_output=True, text=True,
        )  # fmt: skip
        assert run.returncode == exit_code, run.stderr
        told = "error: exporting and verifying need torch, which is not installed; install it: pip"
        assert run.stderr.startswith(told if exit_code else "")
        assert "Traceback" not in run.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["x2.onnx"]
