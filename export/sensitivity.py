"""Choice of the layers in 8 bits: each layer's loss alone, and the largest set in a budget."""

import logging
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import onnx
from tqdm import tqdm, trange

from export.calibration import Pair, Pictures, calibration_inputs, observe
from export.departure import Sample, departure
from export.kinds import judged_images
from export.layers import layer_macs, observed_tensors
from export.parity import cached, expected_loss
from export.quantization import DIALECTS, quantize, round_weights
from export.ranges import fit, short
from export.sessions import Run, candidate
from export.torch_graph import TorchGraph
from hfdn_deploy.bundle import Quantization, Ranges
from hfdn_deploy.errors import InputError

logger = logging.getLogger(__name__)

# Gains are estimated on every n-th calibration image.
GAINS_EVERY = 4

# Layers are given up as long as the others have this share of the multiply-accumulates, since the
# last per cent costs most quality (see the curves in docs/results/int8).
ENOUGH = 0.98
# Layers are given up for a gate as long as the others have this share.
LEAST = 0.9

Losses = dict[str, float]
"""Loss by dialect."""


@dataclass(frozen=True)
class Layer:
    """The loss of one layer in 8 bits with all others in fp32."""

    name: str
    macs_share: float
    losses: Losses
    """Expected loss in dB, on average over the held-out images."""


@dataclass(frozen=True)
class Choice:
    """A set of layers in 8 bits."""

    given_up: str | None
    """The last layer of those given up; None if all are in 8 bits."""
    macs_share: float
    """Share of the multiply-accumulates that the layers left have."""
    losses: Losses
    """Expected loss in dB, on average over the held-out images."""
    rms_levels: Losses
    """Difference of the sharp photograph that departs most from fp32, in levels of 255."""


class _Judge:
    """Judge of graphs with layers in 8 bits against the fp32 graph."""

    def __init__(self, full: onnx.ModelProto, pairs: tuple[Pair, ...], scale: int) -> None:
        self.full = full
        self.pairs = pairs
        self.scale = scale
        self.reference = cached(candidate(full))
        self.sharp = [Sample(lr) for lr in judged_images()["photographs"]]

    def loss(self, run: Run) -> float:
        """Return the mean of `expected_loss` over the held-out images."""
        losses = [
            expected_loss(run(pair.lr), self.reference(pair.lr), pair.original, self.scale)
            for pair in self.pairs
        ]
        return float(np.mean(losses))

    def losses(self, quantization: Quantization) -> Losses:
        """Return the losses of the graphs with this quantisation."""
        return {name: self.loss(run) for name, run in self._runs(quantization)}

    def choice(self, given_up: str | None, quantization: Quantization) -> Choice:
        """Measure a set of layers."""
        losses, levels = {}, {}
        for name, run in self._runs(quantization):
            losses[name] = self.loss(run)
            sharp = departure("photographs", self.sharp, run, self.reference, self.scale)
            levels[name] = sharp.rms_levels
        return Choice(given_up, quantization.macs_share, losses, levels)

    def _runs(self, quantization: Quantization) -> Iterator[tuple[str, Run]]:
        for name in DIALECTS:
            yield name, candidate(quantize(self.full, quantization, name))


class Study:
    """A graph's layers in 8 bits: what each of them costs, and which were chosen.

    What only a report needs is measured when it is read; it takes minutes.
    """

    quantization: Quantization
    layers: tuple[Layer, ...]
    """In the order in which they would be given up."""
    chosen: Choice
    """The choice with ranges for its layers alone; `choices` have ranges for all layers."""

    def __init__(
        self,
        full: onnx.ModelProto,
        scale: int,
        pictures: Pictures,
        budget_db: float,
        passes: Callable[[Quantization], bool],
    ) -> None:
        """Calibrate an fp32 graph, rank its layers and choose those that go to 8 bits.

        Layers are given up in the order of their loss per multiply-accumulate: as many as leave
        `ENOUGH` in 8 bits, and then more until the held-out images are expected to lose at most
        `budget_db` on average in every dialect. If the graphs then fail a gate, more are given up
        as long as `LEAST` is left; if that does not help, it is undone.

        Args:
            full: the fp32 graph.
            scale: upscaling factor.
            pictures: images to calibrate on and to measure losses on.
            budget_db: largest expected loss in dB.
            passes: whether the graphs with a quantisation pass all gates.

        Raises:
            InputError: every choice of layers exceeds the budget.
        """
        logger.info("observing tensors on the calibration images")
        macs = layer_macs(full)
        self._shares = {name: value / sum(macs.values()) for name, value in macs.items()}
        tensors = observed_tensors(full, self._shares)
        inputs = calibration_inputs(full, tensors, pictures)
        seen = observe(full, tensors, inputs)
        some = [lr for images in inputs.values() for lr in images[::GAINS_EVERY]]
        gains = TorchGraph(full).gains(tensors, some)

        def ranges(layers: Collection[str]) -> dict[str, Ranges]:
            return {key: fit(full, layers, seen, gains, x) for key, x in DIALECTS.items()}

        logger.info("choosing ranges")
        self._everything = Quantization(
            pictures_sha256=pictures.sha256(),
            budget_db=budget_db,
            layers=tuple(self._shares),
            macs_share=1.0,
            channel_means={name: tuple(map(short, values.means)) for name, values in seen.items()},
            ranges=ranges(self._shares),
        )
        self._judge = _Judge(full, pictures.held_out, scale)
        self._measured: dict[int, Choice] = {}
        self.layers = self._ranked()
        first = self._without(self._first_that_fits())
        attempts = []
        for left in (first, *self._fewer(first)):
            attempts.append(replace(left, ranges=ranges(left.layers)))
            if passes(attempts[-1]):
                break
            logger.info("%d layers in INT8 fail a gate", len(left.layers))
        else:
            del attempts[1:]
        self.quantization = attempts[-1]
        kept = self.quantization.layers
        given_up = [layer.name for layer in self.layers if layer.name not in kept]
        self.chosen = self._judge.choice(given_up[-1] if given_up else None, self.quantization)

    @cached_property
    def choices(self) -> tuple[Choice, ...]:
        """From all layers in 8 bits to none."""
        number = len(self.layers) + 1
        logger.info("measuring %d sets of layers in INT8; takes minutes", number)
        bar = trange(number, desc="sets of layers", unit="set", disable=None, leave=False)
        return tuple(map(self._choice, bar))

    @cached_property
    def weights_only(self) -> float:
        """Expected loss in dB with the weights of all layers rounded and nothing else."""
        return self._judge.loss(candidate(round_weights(self._judge.full, self._shares)))

    def _ranked(self) -> tuple[Layer, ...]:
        logger.info("measuring %d layers in INT8, each alone; takes minutes", len(self._shares))
        sweep = tqdm(self._shares, desc="each layer alone", unit="layer", disable=None, leave=False)
        layers = [
            Layer(name, self._shares[name], self._judge.losses(self._only([name])))
            for name in sweep
        ]
        layers.sort(key=lambda layer: max(layer.losses.values()) / layer.macs_share, reverse=True)
        return tuple(layers)

    def _first_that_fits(self) -> int:
        """Return how many layers are given up."""
        budget_db = self._everything.budget_db
        for given_up in range(len(self.layers)):
            if self._without(given_up + 1).macs_share >= ENOUGH:
                continue
            if max(self._choice(given_up).losses.values()) <= budget_db:
                return given_up
        raise InputError(
            f"no layer in INT8 stays within a loss of {budget_db:g} dB; allow a larger loss."
        )

    def _fewer(self, left: Quantization) -> Iterator[Quantization]:
        """Yield smaller and smaller sets that keep `LEAST`, without the layers that would not."""
        for layer in self.layers:
            fewer = self._only(set(left.layers) - {layer.name})
            if fewer != left and fewer.macs_share >= LEAST:
                left = fewer
                yield left

    def _choice(self, given_up: int) -> Choice:
        """Measure, once, the set without the first `given_up` layers."""
        if given_up not in self._measured:
            last = self.layers[given_up - 1].name if given_up else None
            self._measured[given_up] = self._judge.choice(last, self._without(given_up))
        return self._measured[given_up]

    def _without(self, given_up: int) -> Quantization:
        """Return the set without the first `given_up` layers, with ranges for all layers."""
        return self._only([layer.name for layer in self.layers[given_up:]])

    def _only(self, layers: Collection[str]) -> Quantization:
        kept = tuple(name for name in self._shares if name in layers)
        share = sum(self._shares[name] for name in kept)
        return replace(self._everything, layers=kept, macs_share=share)
