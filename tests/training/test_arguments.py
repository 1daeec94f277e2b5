import numpy as np
import pytest

torch = pytest.importorskip("torch", exc_type=ModuleNotFoundError)

from hfdn_deploy.images import write_image  # noqa: E402
from tests.helpers.commands import misused  # noqa: E402
from training.cli import main  # noqa: E402


@pytest.mark.parametrize("command", [[], ["ablate"]])
@pytest.mark.parametrize("rate", ["nan", "0", "-1", "inf"])
def test_what_is_no_rate(tmp_path, capsys, command, rate):
    arguments = [*command, "--scale", "2", "--output", str(tmp_path / "run"), "--rate", rate]
    said = misused(capsys, arguments, main)
    assert f"argument --rate: '{rate}' is not a number above 0" in said


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is available")
@pytest.mark.parametrize("command", ["--scale 2 --output", "ablate --output", "session a b 1 run"])
def test_a_device_that_is_not_here(tmp_path, capsys, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    words = command.removesuffix(" run").split() + (["run"] if command.endswith("put") else [])
    assert main([*words, "--device", "cuda"]) == 4
    error = capsys.readouterr().err
    assert error == "error: PyTorch finds no CUDA device; leave out --device cuda.\n"
    assert not list(tmp_path.iterdir())


def test_a_patch_that_does_not_fit_the_scale(tmp_path, capsys):
    for name in "ab":
        write_image(tmp_path / "data" / f"{name}.png", np.zeros((100, 120), np.uint8))
    command = ["--scale", "2", "--data", str(tmp_path / "data"), "--output", str(tmp_path / "run")]
    for side, words in (
        (95, "the patch side 95 is not a multiple of scale 2"),
        (102, "no training image is at least 102×102 pixels"),
    ):
        assert main([*command, "--patch", str(side)]) == 2
        assert words in capsys.readouterr().err
