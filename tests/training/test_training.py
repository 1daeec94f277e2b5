import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from hfdn_deploy.bench import ssim as numpy_ssim
from hfdn_deploy.bench import to_levels
from hfdn_deploy.errors import CheckpointError, InputError
from hfdn_deploy.images import write_image
from hfdn_deploy.network import HFDNConfig, load_checkpoint
from tests.helpers.paths import ROOT
from training.ablation import markdown, variants
from training.cli import main
from training.data import Patches
from training.initial import initial_network
from training.loop import Trainer, validate
from training.loss import loss, ssim
from training.recipe import RECIPES, Recipe


def test_the_papers_recipe_is_the_default():
    paper = RECIPES["paper"]
    assert paper == Recipe()
    assert (paper.patch, paper.ssim, paper.auxiliary) == (96, 1, 1)
    assert paper.rate_at(0) == pytest.approx(1e-4)
    assert paper.rate_at((paper.steps - 1) / paper.steps) == pytest.approx(1e-5)
    assert (paper.optimiser, RECIPES["fast"].optimiser) == ("adam", "soap")
    assert (paper.sizes, RECIPES["fast"].sizes) == ((1.0,), (1.0, 0.9, 0.8, 0.7, 0.6))


def test_warmup_then_cosine():
    recipe = Recipe(rate=1.0, final_rate=0.0, warmup=0.2)
    assert recipe.rate_at(0) == pytest.approx(0.01)
    assert recipe.rate_at(0.1) == pytest.approx(0.5)
    assert recipe.rate_at(0.2) == pytest.approx(1)
    assert recipe.rate_at(0.6) == pytest.approx(0.5)
    assert recipe.rate_at(1) == pytest.approx(0)


def test_the_schedule_follows_steps_or_the_clock():
    assert Recipe(steps=200).done(50, seconds=1e9) == 0.25
    assert Recipe(steps=200, minutes=2).done(1000, seconds=90) == 0.75


def test_ssim_is_that_of_the_protocol(images):
    a = images[2]
    b = to_levels(a + np.random.default_rng(0).normal(0, 12, a.shape))
    # The protocol leaves out only partial windows, like a valid convolution.
    tensors = [torch.from_numpy(x / 255).float()[None, None] for x in (a, b)]
    assert ssim(*tensors).item() == pytest.approx(numpy_ssim(a, b), abs=1e-4)


def test_loss_weighs_levels_and_terms():
    target = torch.rand(2, 1, 32, 32)
    off = [target + 0.1, target + 0.2, target + 0.4]
    l1 = Recipe(auxiliary=0.5, ssim=0)
    assert loss(off, target, l1).item() == pytest.approx(0.5 * 0.1 + 0.5 * 0.2 + 0.4, rel=1e-5)
    assert loss([target] * 3, target, Recipe()).item() == pytest.approx(0, abs=1e-5)
    expected = 0.4 + 2 * (1 - ssim(off[2], target).item())
    assert loss(off[2:], target, Recipe(ssim=2)).item() == pytest.approx(expected, rel=1e-4)


def test_the_psnr_loss_counts_each_patch_by_its_logarithm():
    target = torch.zeros(2, 1, 8, 8)
    output = torch.stack([torch.full((1, 8, 8), 0.1), torch.full((1, 8, 8), 0.01)])
    recipe = Recipe(pixel="psnr", ssim=0)
    expected = (math.log(0.01 + 1e-5) + math.log(0.0001 + 1e-5)) / 2
    assert loss([output], target, recipe).item() == pytest.approx(expected, rel=1e-4)
    assert math.isfinite(loss([target], target, recipe).item())


@pytest.mark.slow
def test_a_short_run_relearns_the_last_layers(images, tmp_path):
    """Last layers start at zero, which gives bicubic, before trained features; PSNR rises."""
    network = load_checkpoint(ROOT / "checkpoints" / "hfdn_x4.safetensors")
    for head in network.ordered_heads:
        torch.nn.init.zeros_(head.last.weight)
        torch.nn.init.zeros_(head.last.bias)
    validation = [image[100:196, 100:196] for image in images]
    bicubic = validate(network, validation)
    recipe = Recipe(steps=40, batch=4, patch=48, rate=1e-3, warmup=0.1, clip=0.5, ssim=0)
    trainer = Trainer(network, recipe, tmp_path)
    trainer.run(Patches(images, 4, recipe.patch, "cpu"), validation, every=40)
    assert validate(trainer.best, validation) > bicubic + 0.2
    saved = load_checkpoint(tmp_path / "hfdn_x4.safetensors")
    torch.testing.assert_close(saved.state_dict(), trainer.best.state_dict(), rtol=0, atol=0)
    (line,) = (tmp_path / "log.jsonl").read_text().splitlines()
    record = json.loads(line)
    assert record["step"] == 40
    # Another memory layout sums in another order, so a pixel may round differently.
    assert record["validation_psnr"] == pytest.approx(validate(saved, validation), abs=1e-3)


def test_initial_network_takes_what_fits(tmp_path, checkpoint):
    source = load_checkpoint(checkpoint)
    network = initial_network(2, checkpoint, 0)
    assert network.config.scale == 2
    assert torch.equal(network.fusion.weight, source.fusion.weight)
    assert torch.equal(network.heads["d"].conv1.weight, source.heads["d"].conv1.weight)
    fresh = initial_network(2, None, 0).heads["d"].deconv.weight
    assert torch.equal(network.heads["d"].deconv.weight, fresh)


def test_another_run_is_not_continued(tmp_path):
    recipe = Recipe(steps=2)
    trainer = Trainer(initial_network(4, None, 0), recipe, tmp_path)
    trainer.save({"step": 0, "loss": 0.0})
    for other in (replace(recipe, steps=3), replace(recipe, seed=1)):
        with pytest.raises(CheckpointError, match=r"another (steps|seed)"):
            Trainer(initial_network(4, None, other.seed), other, tmp_path)
    with pytest.raises(CheckpointError, match="another optimiser"):
        Trainer(initial_network(4, None, 0), replace(recipe, minutes=1, optimiser="soap"), tmp_path)
    with pytest.raises(CheckpointError, match="another scale"):
        Trainer(initial_network(2, None, 0), recipe, tmp_path)


def test_a_diverged_run_is_stopped_before_it_is_saved(tmp_path):
    trainer = Trainer(initial_network(4, None, 0), Recipe(), tmp_path)
    with pytest.raises(InputError, match="no longer finite"):
        trainer.save({"step": 1, "loss": math.nan})
    assert not list(tmp_path.iterdir())


def test_a_torn_log_line_is_dropped(tmp_path):
    recipe = Recipe(steps=2)
    Trainer(initial_network(4, None, 0), recipe, tmp_path).save({"step": 0, "loss": 0.0})
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"step": 1, "lo')
    Trainer(initial_network(4, None, 0), recipe, tmp_path)
    assert read_log(tmp_path) == {0: {"step": 0, "loss": 0.0}}
    (tmp_path / "state.pt").write_bytes(b"torn")
    with pytest.raises(CheckpointError, match="is damaged"):
        Trainer(initial_network(4, None, 0), recipe, tmp_path)


def test_command_line_errors(tmp_path, capsys, photo):
    output = tmp_path / "out"
    arguments = ["--scale", "4", "--output", str(output), "--data", str(tmp_path)]
    assert main([*arguments, "nowhere"]) == 2
    assert main(arguments) == 2
    write_image(tmp_path / "a.png", photo)
    write_image(tmp_path / "b.png", photo)
    assert main(arguments) == 2
    assert "at least 96×96" in capsys.readouterr().err
    for option in ("--steps", "--batch", "--every"):
        with pytest.raises(SystemExit):
            main([*arguments, option, "0"])


def test_ablation_trains_each_distinct_network_once(tmp_path, images, capsys):
    (tmp_path / "data").mkdir()
    for i, image in enumerate(images[:2]):
        write_image(tmp_path / "data" / f"{i}.png", image[:100, :104])
    arguments = ["--output", str(tmp_path / "out"), "--data", str(tmp_path / "data")]
    arguments += ["--steps", "1", "--batch", "1", "--seeds", "1", "--device", "cpu"]
    assert main(["ablate", *arguments]) == 0
    table = capsys.readouterr().out
    # The tables of four, three and three rows share the full network.
    names = ["full", "attention-none", "attention-ca", "attention-sa", "dense-plain"]
    names += ["dense-concat", "supervision-d", "supervision-s+d"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(f"{n}-0" for n in names)
    logged = read_log(tmp_path / "out" / "dense-plain-0")[1]["validation_psnr"]
    assert f"| plain | {logged:.3f} | {logged:.3f} |" in table
    assert main(["ablate", *arguments]) == 0  # nothing is left to train
    assert capsys.readouterr().out == table


def test_ablation_table_says_what_is_real():
    networks = list(variants(4))
    results = {config: [30.0, 30.02] for config in networks}
    results[HFDNConfig(4, attention="none")] = [29.9, 29.92]
    table = markdown(results).splitlines()
    # The pooled standard deviation and the standard error of a difference are both 0.01414.
    assert "| none | 29.900, 29.920 | 29.910 | -0.100 ± 0.028 | yes | 34.16 |" in table
    assert "| ca | 30.000, 30.020 | 30.010 | +0.000 ± 0.028 | no | 34.19 |" in table
    assert "| ca+sa | 30.000, 30.020 | 30.010 |  |  | 34.21 |" in table


def read_log(folder):
    lines = (folder / "log.jsonl").read_text().splitlines()
    return {record["step"]: record for record in map(json.loads, lines)}


@pytest.mark.slow
def test_killed_and_resumed_gives_the_same_losses(tmp_path, images):
    """SIGKILL at any moment loses the steps since the last save and changes no number."""
    (tmp_path / "data").mkdir()
    for i, image in enumerate(images[:2]):
        write_image(tmp_path / "data" / f"{i}.png", image[:200, :200])
    for i in range(2, 65):  # one image in 64 is held out
        write_image(tmp_path / "data" / f"{i:02}.png", images[0][:40, :40])
    arguments = "--scale 4 --steps 12 --batch 2 --every 2 --fp32 --recipe fast --device cpu"
    command = [sys.executable, "-m", "training", *arguments.split(), "--data", tmp_path / "data"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(folder):
        return subprocess.Popen(
            [*command, "--output", folder], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL
        )

    assert start(tmp_path / "whole").wait(timeout=300) == 0
    killed = tmp_path / "killed"
    for kill_after in (2, 6):
        process = start(killed)
        while not (killed / "state.pt").exists() or max(read_log(killed)) < kill_after:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert start(killed).wait(timeout=300) == 0
    whole, resumed = read_log(tmp_path / "whole"), read_log(killed)
    assert list(whole) == list(resumed) == [2, 4, 6, 8, 10, 12]
    for step, record in whole.items():
        for key in ("loss", "validation_psnr", "rate"):
            assert resumed[step][key] == pytest.approx(record[key], abs=1e-6)
    weights = [load_checkpoint(f / "hfdn_x4.safetensors") for f in (killed, tmp_path / "whole")]
    torch.testing.assert_close(weights[0].state_dict(), weights[1].state_dict())
