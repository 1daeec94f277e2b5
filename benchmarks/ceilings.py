"""The measured limits of a device, and how close a network comes to them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import onnx

from benchmarks.costs import tensors
from export.layers import layer_macs

_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}
COLUMNS = ("of the product", "of the copy", "times the roofline")


@dataclass(frozen=True)
class Layer:
    """The arithmetic and memory traffic of a convolution for one image."""

    macs: float
    numbers: int
    """Count of the numbers in its input, weights, bias and output."""


def layers_of(model: onnx.ModelProto, size: tuple[int, int]) -> list[Layer]:
    """Return the convolutions of an fp32 graph, for an input of this width and height."""
    width, height = size
    known, macs = tensors(model, height, width), layer_macs(model)
    return [
        Layer(
            macs[node.name] * width * height,
            sum(math.prod(known[name].shape) for name in (*node.input, node.output[0])),
        )
        for node in model.graph.node
        if node.name in macs
    ]


@dataclass(frozen=True)
class Ceilings:
    """The measured limits of a device."""

    rates: dict[str, float]
    """Multiply-accumulates per second of a matrix product, by precision."""
    bandwidth: float
    """Bytes per second that a copy reads and writes."""

    def roofline(self, layers: Sequence[Layer], precision: str) -> float:
        """Return the least seconds that the layers take, one after another.

        A layer takes the longer of two times: its multiply-accumulates at the rate of a matrix
        product, and its bytes at the bandwidth (S. Williams et al., "Roofline", 2009).
        Activations and joins are free, as if fused; in int8 every number has 8 bits.
        """
        return sum(map(max, self._computing(layers, precision), self._moving(layers, precision)))

    def cells(self, layers: Sequence[Layer], precision: str, seconds: float) -> list[str]:
        """Return the cells of `COLUMNS` for a run of the given seconds."""
        return [
            f"{sum(self._computing(layers, precision)) / seconds:.0%}",
            f"{sum(self._moving(layers, precision)) / seconds:.0%}",
            f"{seconds / self.roofline(layers, precision):.2f}",
        ]

    def _computing(self, layers: Sequence[Layer], precision: str) -> list[float]:
        return [layer.macs / self.rates[precision] for layer in layers]

    def _moving(self, layers: Sequence[Layer], precision: str) -> list[float]:
        return [layer.numbers * _BYTES[precision] / self.bandwidth for layer in layers]
