"""Train all three scales in a given time, for a GPU that is lent for half an hour."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from training.data import Luma, Patches
from training.initial import initial_network, newest_checkpoint
from training.loop import LOG, Trainer, validate
from training.recipe import FAST

# Multiply-accumulates of an image by scale, in billions at 1280×720: shares of the time that give
# every scale about as many steps.
COSTS = {2: 232.0, 3: 152.2, 4: 115.6}
# A GPU is idle half of the time at 16 patches.
RECIPES = {"cpu": replace(FAST, batch=16), "cuda": replace(FAST, batch=32)}


def train_all(
    images: tuple[Sequence[Luma], Sequence[Luma]],
    output: Path,
    device: str,
    seconds_left: Callable[[], float],
    every: int,
) -> None:
    """Train ×2, ×3 and ×4 in turn and print a line for each.

    A scale resumes from its state in `output`, or else starts from the newest checkpoint. Runs
    stand in `output/x2` and so on, their log in `output`.

    Args:
        images: (training, validation), as `load_folders` returns them.
        seconds_left: time until the end of the session.
        every: steps between two saves.
    """
    training, validation = images
    output.mkdir(parents=True, exist_ok=True)
    for scale in COSTS:
        patches = Patches(training, scale, FAST.patch, device)
        checkpoint = newest_checkpoint(scale)
        network = initial_network(scale, checkpoint, FAST.seed).to(device)
        began = time.monotonic()
        reference = validate(network, validation)
        evaluation = time.monotonic() - began
        rest = sum(cost for other, cost in COSTS.items() if other >= scale)
        # An evaluation and the save come after the training, whose first step is always taken.
        seconds = max(1.0, seconds_left() * COSTS[scale] / rest - 1.5 * evaluation)
        recipe = replace(RECIPES[device], minutes=seconds / 60)
        trainer = Trainer(network, recipe, output / f"x{scale}", output / LOG)
        first = trainer.step
        decibels = trainer.run(patches, validation, every)["validation_psnr"]
        print(
            f"×{scale}: steps {first:,} to {trainer.step:,}, {decibels:.3f} dB held out "
            f"({checkpoint}: {reference:.3f}), {trainer.folder}",
            flush=True,
        )
