"""The training loop: resumable at any moment, deterministic for a seed on a CPU in fp32."""

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from hfdn_deploy.atomic import replaced
from hfdn_deploy.bench import PEAK, crop_to_multiple, degrade, psnr, to_levels
from hfdn_deploy.errors import CheckpointError, InputError
from hfdn_deploy.network import HFDN, save_checkpoint
from training.data import Luma, Patches
from training.loss import loss
from training.recipe import Recipe

logger = logging.getLogger(__name__)

Tensors = tuple[Tensor, ...] | list[Tensor]

STATE = "state.pt"
LOG = "log.jsonl"


class Trainer:
    """One run: a network, its optimiser and average, and a folder that outlives a kill.

    The folder holds `state.pt` (everything a resume needs), `log.jsonl` (a line each `every`
    steps) and `hfdn_x{scale}.safetensors` (the averaged weights).
    """

    def __init__(
        self, network: HFDN, recipe: Recipe, folder: Path, seed: int = 0, bf16: bool = True
    ) -> None:
        """Start a run, or take up the one whose state lies in `folder`.

        Args:
            network: on the device to train on, with its initial weights.
            bf16: compute the network in bfloat16 (weights, loss and optimiser stay fp32).

        Raises:
            CheckpointError: `folder` holds a run with another network, recipe, seed or bf16.
        """
        self.recipe, self.folder, self.seed, self.bf16 = recipe, folder, seed, bf16
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.device = next(network.parameters()).device.type
        self.network.train().requires_grad_(True)
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=recipe.rate)
        self.average = AveragedModel(self.network, multi_avg_fn=self._move_average)
        self.step = 0
        self.identity = {**network.config.to_dict(), **asdict(recipe), "seed": seed, "bf16": bf16}
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / STATE).exists():
            self._resume()

    def run(self, patches: Patches, validation: Sequence[Luma], every: int) -> None:
        """Train to the recipe's last step; validate, log and save each `every` steps."""
        losses: list[Tensor] = []
        start = time.monotonic()
        bar = tqdm(total=self.recipe.steps, initial=self.step, unit="step", disable=None)
        while self.step < self.recipe.steps:
            losses.append(self.advance(patches))
            bar.update()
            if self.step % every == 0 or self.step == self.recipe.steps:
                decibels = validate(self.best, validation)
                record = {
                    "step": self.step,
                    "loss": torch.stack(losses).mean().item(),
                    "rate": self.recipe.rate_at(self.step - 1),
                    "validation_psnr": decibels,
                    "seconds_per_step": (time.monotonic() - start) / len(losses),
                }
                self.save(record)
                bar.set_postfix(loss=f"{record['loss']:.5f}", psnr=f"{decibels:.3f}")
                losses, start = [], time.monotonic()
        bar.close()

    def advance(self, patches: Patches) -> Tensor:
        """One optimiser step; returns the loss, a scalar that stays on the device."""
        lr, hr = patches.batch(self.recipe.batch, self.seed, self.step)
        lr = lr.to(memory_format=torch.channels_last)
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.rate_at(self.step)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.bf16):
            images = self.network.forward_levels(lr)
        value = loss(images, hr, self.recipe)
        self.optimiser.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip)
        self.optimiser.step()
        self.average.update_parameters(self.network)
        self.step += 1
        return value.detach()

    @property
    def best(self) -> HFDN:
        """The network with averaged weights, which is what a run is for."""
        module = self.average.module
        assert isinstance(module, HFDN)
        return module

    def _move_average(self, averages: Tensors, weights: Tensors, count: Tensor | int) -> None:
        # A young average forgets faster, or it would long remember the random start.
        decay = min(self.recipe.ema, (1 + int(count)) / (10 + int(count)))
        torch._foreach_lerp_(averages, weights, 1 - decay)

    def save(self, record: dict[str, float]) -> None:
        """Write state, averaged checkpoint and a log line; each is whole or absent."""
        if not np.isfinite(record["loss"]):
            raise InputError("the loss is no longer finite; start anew elsewhere, at a lower rate.")
        state = {
            "identity": self.identity,
            "step": self.step,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        save_checkpoint(self.folder / f"hfdn_x{self.network.config.scale}.safetensors", self.best)
        with (self.folder / LOG).open("a") as log:
            log.write(json.dumps(record) + "\n")
        # Last, so that a kill in between repeats the line rather than losing it.
        with replaced(self.folder / STATE) as temporary:
            torch.save(state, temporary)

    def _resume(self) -> None:
        path = self.folder / STATE
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
        except Exception as error:  # torch raises half a dozen kinds for a damaged file
            raise CheckpointError(f"{path} is damaged ({error}); name another folder.") from None
        if state["identity"] != self.identity:
            names = [k for k, v in self.identity.items() if state["identity"].get(k) != v]
            raise CheckpointError(
                f"{self.folder} holds a run with another {', '.join(names)}: name another folder."
            )
        self.step = state["step"]
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        log = self.folder / LOG
        lines = log.read_text().splitlines(keepends=True) if log.exists() else []
        # The last line may be torn, or of a step whose state was not saved any more.
        kept = [x for x in lines if x.endswith("\n") and json.loads(x)["step"] <= self.step]
        with replaced(log) as temporary:
            temporary.write_text("".join(kept))
        logger.info("resumed %s at step %d", self.folder, self.step)


@torch.inference_mode()
def validate(network: HFDN, images: Sequence[Luma]) -> float:
    """Mean PSNR in dB on luma, by the protocol of the published tables, in fp32."""
    scale = network.config.scale
    device = next(network.parameters()).device
    values = []
    for image in images:
        hr = crop_to_multiple(image, scale)
        lr = torch.from_numpy(degrade(hr, scale) / PEAK).float()[None, None].to(device)
        sr = network(lr).squeeze().cpu().numpy() * PEAK
        values.append(psnr(to_levels(sr), hr, scale))
    return float(np.mean(values))
