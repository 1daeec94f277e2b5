"""Runs by the clock, the compact state, the session of three scales, and publishing."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from hfdn_deploy.bench import luma8, photographs
from hfdn_deploy.errors import InputError
from hfdn_deploy.images import write_image
from hfdn_deploy.network import load_checkpoint
from tests.helpers.paths import ROOT
from training.cli import main
from training.data import Patches
from training.initial import initial_network, newest_checkpoint
from training.loop import Trainer, validate
from training.publish import publish
from training.recipe import FAST, RECIPES

LARGEST_STATE = 9_000_000
TINY = replace(FAST, batch=2, patch=48, bf16=False)


@pytest.fixture(scope="module")
def image():
    return luma8(photographs()["chelsea"])[100:200, 100:200]


@pytest.fixture(scope="module")
def patches(image):
    return Patches([image], 4, TINY.patch, "cpu")


def ticking(seconds):
    """Return a clock for a run that reads it at the start, twice for the log, and each step."""
    times = iter(np.arange(0, 1e6, seconds))
    return lambda: float(next(times))


def rates(folder):
    return [json.loads(line)["rate"] for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_timed_run_is_a_whole_schedule_and_so_is_its_resume(tmp_path, image, patches):
    recipe = replace(TINY, minutes=1, warmup=0.25)
    for session in (1, 2):
        trainer = Trainer(initial_network(4, None, 0), recipe, tmp_path)
        record = trainer.run(patches, [image[:24, :24]], every=1, clock=ticking(5))
        first, *_, last = found = rates(tmp_path)[-trainer.step // session :]
        assert first == pytest.approx(0.01 * recipe.rate)
        assert max(found) > 0.8 * recipe.rate
        assert last < 0.2 * recipe.rate
        assert trainer.step == record["step"] == len(rates(tmp_path))


@pytest.mark.parametrize("name", ["paper", "fast"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_state_has_at_most_nine_megabytes(tmp_path, image, scale, name):
    recipe = replace(RECIPES[name], steps=2, batch=1)
    trainer = Trainer(initial_network(scale, None, 0), recipe, tmp_path)
    trainer.run(Patches([image], scale, 96, "cpu"), [image[:24, :24]], every=2)
    size = (tmp_path / "state.pt").stat().st_size
    parameters = sum(p.numel() for p in trainer.network.parameters())
    assert 10 * parameters < size <= LARGEST_STATE


@pytest.mark.parametrize("name", ["paper", "fast"])
def test_a_resume_changes_no_number(tmp_path, image, patches, name):
    """A run continues from its saved state, rounded to 16 bits, exactly as its resume does."""
    recipe = replace(RECIPES[name], steps=14, batch=2, patch=48, ssim=0.0, bf16=False)
    whole = Trainer(initial_network(4, None, 0), recipe, tmp_path / "whole")
    expected = whole.run(patches, [image], every=12)
    part = Trainer(initial_network(4, None, 0), recipe, tmp_path / "part")
    with pytest.raises(StopIteration):
        part.run(patches, [image], every=12, clock=iter(range(16)).__next__)
    resumed = Trainer(initial_network(4, None, 1), recipe, tmp_path / "part")
    assert resumed.step == 12
    found = resumed.run(patches, [image], every=12)
    for key in ("loss", "rate", "validation_psnr"):
        assert found[key] == pytest.approx(expected[key], abs=1e-6)
    torch.testing.assert_close(resumed.best.state_dict(), whole.best.state_dict())


def test_a_session_resumes_a_run_of_another_recipe(tmp_path, image, patches):
    """A GPU with larger batches continues a run of a CPU, and fp32 continues a run of bf16."""
    Trainer(initial_network(4, None, 0), replace(TINY, steps=1), tmp_path).run(
        patches, [image], every=1
    )
    other = replace(TINY, batch=3, rate=1e-3, seed=5, bf16=True, minutes=1)
    trainer = Trainer(initial_network(4, None, 0), other, tmp_path)
    assert trainer.step == 1
    assert trainer.run(patches, [image], every=9, clock=ticking(30))["step"] > 1


def test_fp32_is_not_tf32(tmp_path):
    Trainer(initial_network(4, None, 0), TINY, tmp_path)
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize("minutes", ["0", "-1", "inf", "nan", "x"])
def test_minutes_are_a_time(tmp_path, minutes, capsys):
    with pytest.raises(SystemExit):
        main(["--scale", "4", "--output", str(tmp_path), "--minutes", minutes])
    assert "is not a number above 0" in capsys.readouterr().err


def test_published_weights_are_half_the_size_and_as_good(tmp_path, image):
    shipped = ROOT / "checkpoints" / "hfdn_x4.safetensors"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / shipped.name).write_bytes(shipped.read_bytes())
    assert main(["publish", str(tmp_path / "run"), "--output", str(tmp_path / "next")]) == 0
    (written,) = (tmp_path / "next").iterdir()
    assert written.stat().st_size < 0.52 * shipped.stat().st_size
    published = load_checkpoint(written)
    original = load_checkpoint(shipped)
    assert published.config == original.config
    assert validate(published, [image]) == pytest.approx(validate(original, [image]), abs=0.005)
    with pytest.raises(InputError, match="no averaged weights"):
        publish(tmp_path / "nowhere", tmp_path)


def test_trained_weights_go_before_shipped_ones(tmp_path):
    assert newest_checkpoint(3, tmp_path) == tmp_path / "hfdn_x3.safetensors"
    (tmp_path / "next").mkdir()
    (tmp_path / "next" / "hfdn_x3.safetensors").touch()
    assert newest_checkpoint(3, tmp_path).parent.name == "next"
    assert newest_checkpoint(2, tmp_path).parent.name != "next"


@pytest.mark.slow
def test_gpu_train_trains_and_resumes_every_scale(tmp_path, image):
    data = tmp_path / "data"
    data.mkdir()
    for i in range(2):
        write_image(data / f"{i}.png", image)
    output = tmp_path / "out"
    steps = []
    for _ in range(2):
        command = ["bash", str(ROOT / "scripts" / "gpu_train.sh"), str(data), str(output), "0.1"]
        done = subprocess.run(
            [*command, "--device", "cpu"],
            env={**os.environ, "PYTHON": sys.executable},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        lines = done.stdout.splitlines()
        assert [line.split(":")[0] for line in lines] == ["×2", "×3", "×4"]
        assert all("dB on held-out images" in line for line in lines)
        records = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
        steps.append({record["scale"]: record["step"] for record in records})
        assert all(math.isfinite(record["validation_psnr"]) for record in records)
    for scale in (2, 3, 4):
        assert 0 < steps[0][scale] < steps[1][scale]
        run = output / f"x{scale}"
        assert (run / "state.pt").stat().st_size <= LARGEST_STATE
        assert load_checkpoint(run / f"hfdn_x{scale}.safetensors").config.scale == scale
    # Small enough to copy back from another machine at once.
    files = [path for path in output.rglob("*") if path.is_file()]
    assert len(files) == 7
    assert sum(path.stat().st_size for path in files) < 40_000_000
