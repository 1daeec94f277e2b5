"""Choice of quantisation ranges and channel scales by the error of the output."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import trange

from export.calibration import Observation
from export.equalization import channel_groups, is_learned
from export.layers import output_axis
from export.quantization import Dialect
from hfdn_deploy.bundle import Ranges
from hfdn_deploy.graph import GraphView, attributes_of

# Clipping weighs more than rounding: it is visible, as it falls on edges in one direction.
CLIPPING = 4.0
# Only one of the two backends that share a dialect computes the pairs in front of activations.
BEFORE_ACTIVATION = 0.5
STEPS = 400
RATE = 0.03


def fit(
    model: onnx.ModelProto,
    layers: Collection[str],
    seen: Mapping[str, Observation],
    gains: Mapping[str, NDArray[np.float64]],
    dialect: Dialect,
) -> Ranges:
    """Choose the ranges and scales with the least expected square error of the output.

    An error e in channel c of a tensor adds gain · E[e²] to it. With limits [low, high] for the
    tensor and a factor k for the channel, steps are d = (high - low) / 255 / k (254 in symmetric
    dialects). E[e²] is d² / 12, plus `CLIPPING` times the squared distance of values beyond low / k
    or high / k. Weights with a scale for each output channel have an error of their largest value
    / 127 / √12. Gradient descent on the logarithms of d and k reduces the sum over all tensors and
    weights.

    Args:
        model: the fp32 graph.
        layers: the convolutions that go to 8 bits.
        seen: statistics of the tensors that `observed_tensors` names.
        gains: gains of the same tensors, from `TorchGraph.gains`.
        dialect: the form of the pairs.
    """
    groups = channel_groups(model)
    problem = _Problem(model, layers, _Known(seen, gains, groups), dialect)
    optimizer = torch.optim.Adam(problem.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in trange(STEPS, desc="ranges", unit="step", disable=None, leave=False):
        optimizer.zero_grad()
        problem().backward()
        optimizer.step()
        schedule.step()
    factors = problem.factors().detach().numpy()
    scales = {
        node.name: tuple(short(x) for x in factors[groups[node.output[0]]])
        for node in filter(is_learned, model.graph.node)
    }
    limits = {name: (short(low), short(high)) for name, (low, high) in problem.limits().items()}
    return Ranges(scales, limits)


@dataclass(frozen=True)
class _Known:
    """Inputs of the error, by tensor."""

    seen: Mapping[str, Observation]
    gains: Mapping[str, NDArray[np.float64]]
    groups: Mapping[str, NDArray[np.int64]]


class _Problem(nn.Module):
    """The expected square error as a function of steps, lower limits and factors."""

    def __init__(
        self,
        model: onnx.ModelProto,
        layers: Collection[str],
        known: _Known,
        dialect: Dialect,
    ) -> None:
        super().__init__()
        view = GraphView(model)
        self.dialect = dialect
        self.tensors: dict[str, _Tensor] = {}
        self.weights: list[_Weights] = []
        for node in view.nodes:
            if node.name not in layers:
                continue
            source, result = node.input[0], node.output[0]
            self.tensors[source] = _Tensor(source, known)
            for reader in view.readers[result]:
                if reader.op_type != "LeakyRelu":
                    continue
                self.weights.append(_Weights(node, view, known))
                if reader.op_type in dialect.before:
                    self.tensors[result] = _Tensor(result, known, attributes_of(reader)["alpha"])
                if node.op_type == "ConvTranspose" and dialect.subpixel:
                    # Its sub-pixels are moved in 8 bits, whichever node reads them.
                    self.tensors[reader.output[0]] = _Tensor(reader.output[0], known)
        peaks = [float(known.seen[name].limits.max()) for name in self.tensors]
        self.log_steps = nn.Parameter(torch.log(torch.tensor(peaks) * (0.7 / dialect.steps)))
        # Logits of the share of the levels that lies below zero.
        below = torch.full((len(peaks),), 0.0 if dialect.symmetric else -2.0)
        self.below = nn.Parameter(below, requires_grad=not dialect.symmetric)
        self.log_factors = nn.Parameter(
            torch.zeros(1 + max(int(g.max()) for g in known.groups.values()))
        )

    def factors(self) -> Tensor:
        """Return the factor of each group; group 0 is not scaled."""
        return torch.cat([torch.ones(1), torch.exp(self.log_factors[1:])])

    def forward(self) -> Tensor:
        factors = self.factors()
        steps, lows = self._steps_and_lows()
        errors = [
            tensor.error(step, low, low + self.dialect.steps * step, factors)
            for tensor, step, low in zip(self.tensors.values(), steps, lows, strict=True)
        ]
        return torch.stack(errors + [weights.error(factors) for weights in self.weights]).sum()

    def limits(self) -> dict[str, tuple[float, float]]:
        """Return the lowest and highest value of each tensor; zero is one of the levels."""
        with torch.no_grad():
            steps, lows = self._steps_and_lows()
            lows = torch.round(lows / steps) * steps
            pairs = zip(lows.tolist(), (lows + self.dialect.steps * steps).tolist(), strict=True)
            return dict(zip(self.tensors, pairs, strict=True))

    def _steps_and_lows(self) -> tuple[Tensor, Tensor]:
        steps = torch.exp(self.log_steps)
        return steps, -self.dialect.steps * steps * torch.sigmoid(self.below)


class _Tensor:
    """The Q/DQ pair on a tensor."""

    def __init__(self, name: str, known: _Known, slope: float | None = None) -> None:
        """Prepare the error; `slope` is that of the LeakyReLU that reads the tensor, if any."""
        self.groups = torch.from_numpy(known.groups[name])
        seen, gain = known.seen[name], known.gains[name]
        self.centres = torch.tensor(seen.centres, dtype=torch.float32)
        shares = seen.shares
        if slope is not None:
            # The activation scales errors below zero; dividing by that gives the gain behind it.
            passed = np.where(seen.centres < 0, slope**2, 1.0) * shares
            gain = BEFORE_ACTIVATION * gain / passed.sum(1)
            shares = passed
        self.shares = torch.tensor(shares, dtype=torch.float32)
        self.gain = torch.tensor(gain, dtype=torch.float32)

    def error(self, step: Tensor, low: Tensor, high: Tensor, factors: Tensor) -> Tensor:
        """Return the pair's share of the mean square error of the output."""
        factor = factors[self.groups]
        bottom, top = (limit / factor[:, None] for limit in (low, high))
        beyond = torch.relu(self.centres - top) + torch.relu(bottom - self.centres)
        clipped = (self.shares * beyond**2).sum(1)
        rounded = self.shares.sum(1) * (step / factor) ** 2 / 12
        return (self.gain * (rounded + CLIPPING * clipped)).sum()


class _Weights:
    """The rounded weights of a convolution."""

    def __init__(self, node: onnx.NodeProto, view: GraphView, known: _Known) -> None:
        source, result = node.input[0], node.output[0]
        weights = view.constants[node.input[1]]
        if output_axis(node):
            weights = weights.swapaxes(0, 1)
        # (out, in): the largest weight of a kernel.
        self.largest = torch.from_numpy(np.abs(weights).max((2, 3)))
        stride = attributes_of(node)["strides"][0] if output_axis(node) else 1
        taps = weights.shape[2] * weights.shape[3] / stride**2
        seen = known.seen[source]
        power = (seen.shares * seen.centres**2).sum(1) * taps
        self.power = torch.tensor(power, dtype=torch.float32)
        self.gain = torch.tensor(known.gains[result], dtype=torch.float32)
        self.groups = torch.from_numpy(known.groups[source])

    def error(self, factors: Tensor) -> Tensor:
        """Return the weights' share of the mean square error of the output."""
        factor = factors[self.groups]
        steps = (self.largest / factor).amax(1) / 127
        return (self.gain * steps**2 / 12).sum() * (factor**2 * self.power).sum()


def short(value: float) -> float:
    """Round to six digits, which is more precise than a calibration and still readable."""
    return float(f"{value:.6g}")
