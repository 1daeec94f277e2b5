"""Training loop: resumable after any interruption; deterministic for a seed on a CPU in fp32."""

import copy
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from hfdn_deploy.atomic import replaced
from hfdn_deploy.bench import PEAK, crop_to_multiple, degrade, psnr, to_levels
from hfdn_deploy.errors import InputError
from hfdn_deploy.network import HFDN, save_checkpoint
from training.data import Luma, Patches
from training.host import separate_bias
from training.loss import loss
from training.recipe import Recipe
from training.soap import Optimiser
from training.state import pack, read_state, unpack, write_state
from training.step import Step

logger = logging.getLogger(__name__)

STATE = "state.pt"
LOG = "log.jsonl"
# Steps between two refreshes of SOAP's bases.
REFRESH = 10


class Trainer:
    """One run: a network, its optimiser and averaged weights, and a folder to resume from.

    The folder holds `state.pt` (everything a resume needs), `log.jsonl` (a line every `every`
    steps) and `hfdn_x{scale}.safetensors` (the averaged weights).
    """

    def __init__(
        self, network: HFDN, recipe: Recipe, folder: Path, log: Path | None = None
    ) -> None:
        """Start a run, or resume the run whose state is in `folder`.

        A recipe with minutes can resume any run of the same network and optimiser, because each
        call is a whole schedule. A recipe with steps resumes only a run of the same recipe.

        Args:
            network: network on the device to train on, with its initial weights.
            recipe: loss, batches, optimiser and schedule.
            folder: folder of the run.
            log: log file, which runs of other scales may share; by default in `folder`.

        Raises:
            CheckpointError: `folder` holds a different run, or its state is damaged.
        """
        # TF32 is too coarse for the variances in SSIM.
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        self.recipe, self.folder, self.log = recipe, folder, log or folder / LOG
        self.network: HFDN = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.device = next(network.parameters()).device.type
        self.network.train().requires_grad_(True)
        # The averaged weights, which are the result of the run.
        self.best: HFDN = copy.deepcopy(self.network).eval().requires_grad_(False)
        if self.device == "cpu":
            separate_bias(self.network)
        self.optimiser = Optimiser(
            list(self.network.parameters()),
            recipe.betas,
            REFRESH if recipe.optimiser == "soap" else None,
        )
        self.step = 0
        fixed = {"optimiser": recipe.optimiser} if recipe.minutes else asdict(recipe)
        self.identity = {**network.config.to_dict(), **fixed}
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / STATE).exists():
            self._resume()

    def run(
        self,
        patches: Patches,
        validation: Sequence[Luma],
        every: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> dict[str, float]:
        """Train to the end; validate, log and save every `every` steps and at the end.

        Returns:
            The last line of the log; empty if the run was already complete.
        """
        record: dict[str, float] = {}
        where = self._draw(patches).to(self.device)
        total = torch.zeros((), device=self.device)
        learn = Step(lambda: self._learn(patches, where, total), self.device)
        saved, start, began = self.step, clock(), clock()
        bar = tqdm(initial=self.step, unit="step", disable=None)
        done = self.recipe.done(self.step, 0)
        while done < 1:
            where.copy_(self._draw(patches), non_blocking=True)
            rate = self.recipe.rate_at(done)
            self.optimiser.prepare(rate)
            learn()
            self._move_average()
            self.step += 1
            bar.update()
            done = self.recipe.done(self.step, clock() - start)
            if self.step % every == 0 or done >= 1:
                steps = self.step - saved
                record = {
                    "scale": self.network.config.scale,
                    "step": self.step,
                    "loss": total.item() / steps,
                    "rate": rate,
                    "validation_psnr": validate(self.best, validation),
                    "seconds_per_step": (clock() - began) / steps,
                }
                self.save(record)
                logger.info("%s", json.dumps(record))
                total.zero_()
                saved, began = self.step, clock()
        bar.close()
        return record

    def _draw(self, patches: Patches) -> Tensor:
        """Draw the next batch's positions, in pinned memory for an asynchronous copy on CUDA."""
        where = patches.draw(self.recipe.batch, self.recipe.seed, self.step)
        return where.pin_memory() if self.device == "cuda" else where

    def _learn(self, patches: Patches, where: Tensor, total: Tensor) -> None:
        """Queue one optimiser step without waiting for the device, and add the loss to `total`."""
        lr, hr = patches.cut(where)
        lr = lr.to(memory_format=torch.channels_last)
        # Each weight is used once, so a cache of casts is useless; a CUDA graph must not hold it.
        with torch.autocast(
            self.device, torch.bfloat16, enabled=self.recipe.bf16, cache_enabled=False
        ):
            images = self.network.forward_levels(lr)
        value = loss(images, hr, self.recipe)
        self.network.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip)
        self.optimiser.step()
        total += value.detach()

    @torch.no_grad()
    def _move_average(self) -> None:
        # The decay starts small, so that the average soon forgets the random initial weights.
        decay = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
        averages: list[Tensor] = list(self.best.parameters())
        weights: list[Tensor] = list(self.network.parameters())
        torch._foreach_lerp_(averages, weights, 1 - decay)

    def save(self, record: dict[str, float]) -> None:
        """Write the state, the averaged checkpoint and a log line; each file is whole or absent.

        The run continues from the rounded state, so that a resumed run gives the same numbers.

        Raises:
            InputError: the loss is not finite.
        """
        if not np.isfinite(record["loss"]):
            raise InputError(
                "the loss is no longer finite; start a new run in another folder at a lower rate."
            )
        state = pack(self.identity, self.step, self.network, self.best, self.optimiser)
        unpack(state, self.network, self.best, self.optimiser)
        save_checkpoint(self.folder / f"hfdn_x{self.network.config.scale}.safetensors", self.best)
        with self.log.open("a") as log:
            log.write(json.dumps(record) + "\n")
        # The state comes last: a kill in between repeats the log line instead of losing it.
        write_state(self.folder / STATE, state)

    def _resume(self) -> None:
        state = read_state(self.folder / STATE, self.identity)
        self.step = state["step"]
        unpack(state, self.network, self.best, self.optimiser)
        lines = self.log.read_text().splitlines(keepends=True) if self.log.exists() else []
        with replaced(self.log) as temporary:
            temporary.write_text("".join(line for line in lines if self._keeps(line)))
        logger.info("resumed %s at step %d", self.folder, self.step)

    def _keeps(self, line: str) -> bool:
        """Return whether a log line is complete and not later than the saved state."""
        if not line.endswith("\n"):
            return False
        record = json.loads(line)
        scale = self.network.config.scale
        return bool(record.get("scale", scale) != scale or record["step"] <= self.step)


@torch.inference_mode()
def validate(network: HFDN, images: Sequence[Luma]) -> float:
    """Return mean PSNR in dB on luma, by the protocol of the published tables, in fp32."""
    scale = network.config.scale
    device = next(network.parameters()).device
    values = []
    for image in images:
        hr = crop_to_multiple(image, scale)
        lr = torch.from_numpy(degrade(hr, scale) / PEAK).float()[None, None].to(device)
        sr = network(lr).squeeze().cpu().numpy() * PEAK
        values.append(psnr(to_levels(sr), hr, scale))
    return float(np.mean(values))
