"""Which layers bear 8 bits: every layer's cost alone, and the largest set within a budget."""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx
from tqdm import tqdm

from export.calibration import (
    CALIBRATORS,
    Observation,
    Pair,
    Pictures,
    before_activation,
    observe,
)
from export.layers import Statistics, layer_macs, observed_tensors
from export.parity import expected_loss
from export.quantization import DIALECTS, quantize, round_weights
from export.sessions import candidate
from hfdn_deploy.bundle import Quantization, TensorStatistics
from hfdn_deploy.errors import InputError

# Layers are ranked with these ranges.
RANKED_WITH = "min-max"

Losses = dict[str, float]
"""Expected loss in dB by dialect, of the held-out picture that loses most."""


@dataclass(frozen=True)
class Layer:
    """What one layer in 8 bits costs, all others in fp32."""

    name: str
    macs_share: float
    losses: Losses


@dataclass(frozen=True)
class Choice:
    """A set of layers in 8 bits: all but those given up before and `given_up`."""

    given_up: str | None
    macs_share: float
    """Of the layers that are left."""
    losses: Losses


@dataclass(frozen=True)
class Study:
    """Everything that was measured, and what was chosen."""

    quantization: Quantization
    calibrators: dict[str, Choice]
    """The first set of layers within the budget, by calibrator, or the first that is smaller than
    another calibrator's."""
    weights_only: float
    """Expected loss in dB with the weights of all layers rounded and nothing else."""
    layers: tuple[Layer, ...]
    """In the order in which they would be given up, with ranges by `RANKED_WITH`."""
    choices: tuple[Choice, ...]
    """From all layers in 8 bits to none."""


class _Judge:
    """Expected losses of graphs on the held-out pictures."""

    def __init__(self, full: onnx.ModelProto, pictures: tuple[Pair, ...], border: int) -> None:
        self.full = full
        self.pictures = pictures
        self.border = border
        run = candidate(full)
        self.references = [run(pair.lr) for pair in pictures]

    def loss(self, model: onnx.ModelProto) -> float:
        """The picture that loses most, see `expected_loss`."""
        run = candidate(model)
        pairs = zip(self.pictures, self.references, strict=True)
        return max(expected_loss(run(p.lr), r, p.original, self.border) for p, r in pairs)

    def losses(self, layers: Collection[str], statistics: Statistics) -> Losses:
        """Of the graphs with these layers in 8 bits."""
        return {
            name: self.loss(quantize(self.full, layers, statistics, dialect))
            for name, dialect in DIALECTS.items()
        }


def study(full: onnx.ModelProto, scale: int, pictures: Pictures, budget_db: float) -> Study:
    """Calibrate an fp32 graph, rank its layers and choose those that go to 8 bits.

    Layers are given up in the order of their cost for each multiply-accumulate saved, until no
    held-out picture is expected to lose more than `budget_db` in either dialect.

    Raises:
        InputError: no layer can be in 8 bits within the budget.
    """
    macs = layer_macs(full)
    shares = {name: value / sum(macs.values()) for name, value in macs.items()}
    seen = observe(full, observed_tensors(full, shares), pictures.calibration)
    judge = _Judge(full, pictures.held_out, scale)
    statistics = {name: _statistics(full, seen, name) for name in CALIBRATORS}

    sweep = tqdm(shares, desc="each layer alone", unit="layer", disable=None, leave=False)
    layers = [
        Layer(name, shares[name], judge.losses([name], statistics[RANKED_WITH])) for name in sweep
    ]
    layers.sort(key=lambda layer: max(layer.losses.values()) / layer.macs_share, reverse=True)
    searches = {name: _choices(layers, judge, statistics[name]) for name in CALIBRATORS}
    tried: dict[str, list[Choice]] = {name: [] for name in CALIBRATORS}
    best = RANKED_WITH
    for name, search in searches.items():
        for choice in search:
            tried[name].append(choice)
            if max(choice.losses.values()) <= budget_db:
                best = max(best, name, key=lambda key: _merit(tried[key][-1]))
                break
            if name != best and choice.macs_share < tried[best][-1].macs_share:
                break
    chosen = tried[best][-1]
    left = {layer.name for layer in layers[len(tried[best]) - 1 :]}
    calibrators = {name: choices[-1] for name, choices in tried.items()}
    choices = (*tried[best], *searches[best])
    if not left:
        raise InputError(f"no layer in INT8 keeps within {budget_db:g} dB; allow more.")
    quantization = Quantization(
        calibrator=best,
        pictures_sha256=_hash(pictures),
        budget_db=budget_db,
        layers=tuple(name for name in shares if name in left),
        macs_share=chosen.macs_share,
        statistics=statistics[best],
    )
    weights_only = judge.loss(round_weights(full, shares))
    return Study(quantization, calibrators, weights_only, tuple(layers), choices)


def _choices(layers: Sequence[Layer], judge: _Judge, statistics: Statistics) -> Iterator[Choice]:
    """All layers in 8 bits, then one fewer each time."""
    for i in range(len(layers) + 1):
        left = {layer.name: layer.macs_share for layer in layers[i:]}
        given_up = layers[i - 1].name if i else None
        yield Choice(given_up, sum(left.values()), judge.losses(left, statistics))


def _merit(choice: Choice) -> tuple[float, float]:
    return choice.macs_share, -max(choice.losses.values())


def _statistics(
    full: onnx.ModelProto, seen: Mapping[str, Observation], calibrator: str
) -> Statistics:
    ranges = {name: CALIBRATORS[calibrator](values) for name, values in seen.items()}
    for node in full.graph.node:
        if node.op_type == "LeakyRelu" and (source := node.input[0]) in seen:
            ranges[source] = before_activation(seen[source], ranges[source], node.attribute[0].f)
    return {
        # Six digits are more than the calibration is worth and keep the manifest readable.
        name: TensorStatistics(
            low=_short(ranges[name][0]),
            high=_short(ranges[name][1]),
            channel_means=tuple(map(_short, values.channel_means)),
        )
        for name, values in seen.items()
    }


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def _hash(pictures: Pictures) -> str:
    digest = hashlib.sha256()
    for pair in (*pictures.calibration, *pictures.held_out):
        digest.update(pair.original.tobytes())
    return digest.hexdigest()
