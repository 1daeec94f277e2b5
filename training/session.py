"""Training of all three scales in a given time, for a GPU borrowed for half an hour."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from training.data import Luma, Patches
from training.initial import initial_network, newest_checkpoint
from training.loop import LOG, Trainer, validate
from training.recipe import FAST

# Multiply-accumulates of an image by scale, in billions at 1280×720. Time is shared in proportion,
# so that every scale takes about as many steps.
COSTS = {2: 232.0, 3: 152.2, 4: 115.6}
# With 16 patches, a GPU is idle half of the time.
RECIPES = {"cpu": replace(FAST, batch=16), "cuda": replace(FAST, batch=32)}


def train_all(
    images: tuple[Sequence[Luma], Sequence[Luma]],
    output: Path,
    device: str,
    seconds_left: Callable[[], float],
    every: int,
) -> None:
    """Train ×2, ×3 and ×4 in turn and print a line for each.

    A scale resumes from its state in `output`, or else starts from the newest checkpoint. The
    runs are in `output/x2` and so on, and share a log in `output`.

    Args:
        images: training and validation images, as `load_folders` returns them.
        output: folder of the runs.
        device: "cpu" or "cuda".
        seconds_left: returns the seconds until the end of the session.
        every: steps between two saves.
    """
    training, validation = images
    output.mkdir(parents=True, exist_ok=True)
    for scale in COSTS:
        patches = Patches(training, scale, FAST.patch, device, FAST.sizes)
        checkpoint = newest_checkpoint(scale)
        network = initial_network(scale, checkpoint, FAST.seed).to(device)
        began = time.monotonic()
        reference = validate(network, validation)
        evaluation = time.monotonic() - began
        rest = sum(cost for other, cost in COSTS.items() if other >= scale)
        # Leave time for the last evaluation and the save; at least one step is always taken.
        seconds = max(1.0, seconds_left() * COSTS[scale] / rest - 1.5 * evaluation)
        recipe = replace(RECIPES[device], minutes=seconds / 60)
        trainer = Trainer(network, recipe, output / f"x{scale}", output / LOG)
        first = trainer.step
        decibels = trainer.run(patches, validation, every)["validation_psnr"]
        print(
            f"×{scale}: steps {first:,} to {trainer.step:,}, {decibels:.3f} dB on held-out "
            f"images ({checkpoint}: {reference:.3f} dB), {trainer.folder}",
            flush=True,
        )
