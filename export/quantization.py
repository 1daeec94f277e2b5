"""INT8 graphs: QuantizeLinear and DequantizeLinear pairs in the fp32 graph, in two dialects."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from export.equalization import channel_factors, equalized
from export.layers import output_axis
from export.subpixel import to_subpixels
from hfdn_deploy.bundle import Quantization
from hfdn_deploy.graph import KEEPS_VALUES, GraphView, attributes_of, rewired

# Lower bound of scales, so that a tensor of zeros can be divided by its scale.
SMALLEST_SCALE = 1e-8
LARGEST_BIAS = np.iinfo(np.int32).max


@dataclass(frozen=True)
class Dialect:
    """The form of graph that a backend's integer kernels need."""

    activations: type[np.int8] | type[np.uint8]
    """np.int8, symmetric around zero, or np.uint8 with a zero point."""
    integer_biases: bool
    """Whether biases are int32 rather than float."""
    before: tuple[str, ...]
    """Operators behind a layer whose inputs get a pair, as those of layers do."""
    subpixel: bool
    """Whether the graph is first rewritten by `export.subpixel`."""

    @property
    def symmetric(self) -> bool:
        """Whether zero is the middle of every tensor's range."""
        return self.activations is np.int8

    @property
    def steps(self) -> int:
        """Steps from the lowest level to the highest; symmetric levels are -127 … 127."""
        return 254 if self.symmetric else 255


# TensorRT fuses pointwise operators into the convolution in front of them (developer guide,
# "Working with quantized types"); ONNX Runtime has integer kernels only between a DQ and a Q.
DIALECTS = {
    "int8": Dialect(np.int8, integer_biases=False, before=(), subpixel=False),
    "int8-cpu": Dialect(
        np.uint8,
        integer_biases=True,
        before=("LeakyRelu", *KEEPS_VALUES),
        subpixel=True,
    ),
}


def quantize(model: onnx.ModelProto, quantization: Quantization, name: str) -> onnx.ModelProto:
    """Return an fp32 graph with the chosen convolutions in 8 bits.

    Weights are symmetric int8 with a scale for each output channel. Biases compensate the mean
    error of the rounded weights (M. Nagel et al., "Data-free quantization through weight
    equalization and bias correction", 2019).

    Args:
        model: the fp32 graph.
        quantization: the layers, and the ranges of their tensors.
        name: name of the INT8 graph, a key of `DIALECTS`.

    Raises:
        ValueError: the channel scales do not fit the graph.
    """
    dialect, ranges = DIALECTS[name], quantization.ranges[name]
    factors = channel_factors(model, ranges.channel_scales)
    means = {
        tensor: np.asarray(values) * factors[tensor]
        for tensor, values in quantization.channel_means.items()
    }
    model = equalized(model, ranges.channel_scales)
    if dialect.subpixel:
        model = to_subpixels(model)
    view = GraphView(model)
    writer = _Writer(dialect, dict(ranges.limits), means, dict(view.tensors))
    for node in view.nodes:
        writer.add(node, node.name in quantization.layers)
    quantized = view.changed(nodes=writer.nodes, constants=writer.tensors)
    onnx.checker.check_model(quantized, full_check=True)
    return quantized


@dataclass
class _Writer:
    """Writer of the nodes of a quantised graph, in order."""

    dialect: Dialect
    limits: dict[str, tuple[float, float]]
    """Lowest and highest value by tensor."""
    means: dict[str, NDArray[np.float64]]
    """Mean of each channel, by tensor."""
    tensors: dict[str, onnx.TensorProto]
    """Constants by name: first the fp32 graph's, in the end the quantised graph's."""
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    integers: set[str] = field(default_factory=set)
    """Results of integer arithmetic."""
    dequantized: dict[str, str] = field(default_factory=dict)
    """Name of a tensor behind its pair."""

    def add(self, node: onnx.NodeProto, in_int8: bool) -> None:
        """Add a node of the fp32 graph and the pairs that it needs."""
        source, result = node.input[0], node.output[0]
        follows = node.op_type in self.dialect.before and source in self.integers
        inputs = self._quantize_parameters(node) if in_int8 else {}
        if in_int8 or follows:
            inputs[source] = self._pair(source)
            self.integers.add(result)
        if node.op_type in KEEPS_VALUES and source in self.limits:
            self.limits[result] = self.limits[source]
            self.means[result] = self.means[source]
        self.nodes.append(rewired(node, inputs))

    def _pair(self, tensor: str) -> str:
        """Return the name of a tensor behind its Q/DQ pair, which is written once."""
        if tensor not in self.dequantized:
            scale, zero = self._scale_and_zero(tensor)
            constants = [
                self._constant(f"{tensor}.scale", scale), self._constant(f"{tensor}.zero", zero)
            ]  # fmt: skip
            levels, result = f"{tensor}.quantized", f"{tensor}.dequantized"
            self._write("QuantizeLinear", [tensor, *constants], levels)
            self._write("DequantizeLinear", [levels, *constants], result)
            self.dequantized[tensor] = result
        return self.dequantized[tensor]

    def _scale_and_zero(self, tensor: str) -> tuple[NDArray[np.float32], NDArray[np.integer]]:
        low, high = self.limits[tensor]
        low, high = min(low, 0.0), max(high, 0.0)
        if self.dialect.symmetric:
            low, high = -max(-low, high), max(-low, high)
        scale = max((high - low) / self.dialect.steps, SMALLEST_SCALE)
        zero = 0 if self.dialect.symmetric else round(-low / scale)
        return np.array(scale, np.float32), np.array(zero, self.dialect.activations)

    def _quantize_parameters(self, node: onnx.NodeProto) -> dict[str, str]:
        """Write a convolution's 8-bit weights and bias, and return their new names by old name."""
        source, weight_name, bias_name = node.input
        weights = numpy_helper.to_array(self.tensors.pop(weight_name))
        bias = numpy_helper.to_array(self.tensors.pop(bias_name)).astype(np.float64)
        axis = output_axis(node)
        scale = self._scale_and_zero(source)[0]
        least: NDArray[np.float64] | float = 0.0
        if self.dialect.integer_biases:
            # Where weights are small beside the bias, a coarser scale keeps the bias in 32 bits.
            least = 1.01 * np.abs(bias) / (scale * LARGEST_BIAS)
        integers, scales = quantize_weights(weights, axis, least)
        inputs = {weight_name: f"{weight_name}.dequantized"}
        constants = self._constants(weight_name, integers, scales)
        self._write("DequantizeLinear", constants, inputs[weight_name], axis=axis)
        error = (dequantize_weights(integers, scales, axis) - weights).sum((2, 3))
        means = self.means[source]
        # Each output pixel of a transposed convolution uses one tap in stride².
        stride = attributes_of(node)["strides"][0] if axis else 1
        bias -= (means @ error if axis else error @ means) / stride**2
        if not self.dialect.integer_biases:
            self._constant(bias_name, bias.astype(np.float32))
            return inputs
        scales = scales * scale
        inputs[bias_name] = f"{bias_name}.dequantized"
        constants = self._constants(bias_name, np.round(bias / scales).astype(np.int32), scales)
        self._write("DequantizeLinear", constants, inputs[bias_name], axis=0)
        return inputs

    def _constants(
        self, stem: str, integers: NDArray[np.integer], scales: NDArray[np.float32]
    ) -> list[str]:
        """Write the three inputs of a DequantizeLinear and return their names."""
        zeros = np.zeros(scales.shape, integers.dtype)
        parts = {"quantized": integers, "scale": scales, "zero": zeros}
        return [self._constant(f"{stem}.{key}", values) for key, values in parts.items()]

    def _constant(self, name: str, values: NDArray[Any]) -> str:
        self.tensors[name] = numpy_helper.from_array(values, name)
        return name

    def _write(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(operator, inputs, [output], output, **attributes))


def round_weights(model: onnx.ModelProto, layers: Collection[str]) -> onnx.ModelProto:
    """Return an fp32 graph whose weights, and nothing else, are rounded as for TensorRT."""
    view = GraphView(model)
    rounded = {}
    for node in view.nodes:
        if node.name in layers:
            weight, axis = node.input[1], output_axis(node)
            integers, scales = quantize_weights(view.constants[weight], axis)
            rounded[weight] = dequantize_weights(integers, scales, axis)
    return view.changed(constants=view.tensors | rounded)


def quantize_weights(
    weights: NDArray[np.float32], axis: int, least: NDArray[np.float64] | float = 0.0
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return symmetric int8 weights in -127 … 127, and scales of at least `least` along `axis`."""
    others = tuple(i for i in range(weights.ndim) if i != axis)
    scales = np.maximum(np.abs(weights).max(others) / 127, SMALLEST_SCALE)
    scales = np.maximum(scales, least).astype(np.float32)
    return np.round(weights / np.expand_dims(scales, others)).astype(np.int8), scales


def dequantize_weights(
    integers: NDArray[np.int8], scales: NDArray[np.float32], axis: int
) -> NDArray[np.float32]:
    """Return the float32 values of weights from `quantize_weights`."""
    others = tuple(i for i in range(integers.ndim) if i != axis)
    return np.asarray(integers * np.expand_dims(scales, others), np.float32)
