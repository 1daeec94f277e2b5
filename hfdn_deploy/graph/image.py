"""The image graph: from pixels to pixels, with a network for luma inside.

It does in plain operators what `ImagePlanes` does around a network: colour, chroma and rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, compose, helper, numpy_helper

from hfdn_deploy.errors import InputError
from hfdn_deploy.ycbcr import FROM_RGB, TO_RGB

NETWORK = "network/"
"""Prefix of the names of the network's nodes and tensors."""
INPUT, OUTPUT = "image", "upscaled"

LAYOUTS = ("nhwc", "nchw")
CHANNELS = {"rgb": 3, "bgr": 3, "grey": 1}
# ONNX type and largest value, which is white.
_TYPES = {
    "uint8": (TensorProto.UINT8, 255),
    "uint16": (TensorProto.UINT16, 65535),
    "float16": (TensorProto.FLOAT16, 1),
    "float32": (TensorProto.FLOAT, 1),
}
DTYPES = tuple(_TYPES)
# Parameter of bicubic interpolation: OpenCV's, as in `hfdn_deploy.images`.
_A = -0.75
# Pixels on each side that the interpolation reads.
_REACH = 2


@dataclass(frozen=True, kw_only=True)
class PixelFormat:
    """The format of an image graph's input and output.

    Raises:
        InputError: the layout, dtype or kind of channels is unknown, or a side is below 1.
    """

    layout: str = "nhwc"
    """One of `LAYOUTS`."""
    dtype: str = "uint8"
    """One of `DTYPES`; floats are in [0, 1]."""
    channels: str = "rgb"
    """One of `CHANNELS`."""
    size: tuple[int, int] | None = None
    """Width and height of the input; None for any."""

    def __post_init__(self) -> None:
        if self.channels == "rgba":
            raise InputError(
                "transparency needs more than plain operators, or its edges would show the colours "
                "of transparent pixels; choose rgb, and upscale alpha as grey."
            )
        for name, known in (("layout", LAYOUTS), ("dtype", DTYPES), ("channels", CHANNELS)):
            if (value := getattr(self, name)) not in known:
                raise InputError(f"there is no {name} {value!r}; choose one of {', '.join(known)}.")
        if self.size is not None and min(self.size) < 1:
            raise InputError(
                f"an image of {self.size[0]}×{self.size[1]} has no pixels; choose a larger size."
            )

    def __str__(self) -> str:
        """Return the format in words."""
        most = _TYPES[self.dtype][1]
        shape = "N, H, W, C" if self.layout == "nhwc" else "N, C, H, W"
        return f"{self.channels} in {self.dtype}, 0 to {most}, ({shape})"


def image_graph(
    model: onnx.ModelProto, scale: int, pixels: PixelFormat | None = None
) -> onnx.ModelProto:
    """Return a graph from an image to the upscaled image.

    Args:
        model: a network from luma (N, 1, H, W) in [0, 1] to (N, 1, sH, sW), in float32.
        scale: upscaling factor of the network.
        pixels: format of input and output; by default uint8 RGB, (N, H, W, 3) to (N, sH, sW, 3).
    """
    pixels = pixels or PixelFormat()
    network = compose.add_prefix(model, NETWORK)
    graph = _Graph(pixels)
    chroma = graph.take_apart(network.graph.input[0].name)
    graph.nodes += network.graph.node
    if chroma:
        chroma = graph.enlarged(chroma, scale)
    graph.put_together(network.graph.output[0].name, chroma)
    size: tuple[int | str, ...] = ("height", "width")
    large: tuple[int | str, ...] = ("upscaled height", "upscaled width")
    if pixels.size:
        size = pixels.size[::-1]
        large = tuple(scale * side for side in pixels.size[::-1])
    made = helper.make_graph(
        graph.nodes,
        "image",
        [graph.value(INPUT, size)],
        [graph.value(OUTPUT, large)],
        [*graph.tensors, *network.graph.initializer],
    )
    return helper.make_model(
        made,
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
        producer_name=model.producer_name,
    )


def network_in(model: onnx.ModelProto) -> tuple[list[NodeProto], dict[str, TensorProto]]:
    """Return the nodes and constants of the network in an image graph, under their own names."""
    nodes, tensors = [], {}
    for node in model.graph.node:
        if node.name.startswith(NETWORK):
            copy = NodeProto()
            copy.CopyFrom(node)
            copy.name = node.name.removeprefix(NETWORK)
            copy.input[:] = [name.removeprefix(NETWORK) for name in node.input]
            copy.output[:] = [name.removeprefix(NETWORK) for name in node.output]
            nodes.append(copy)
    for tensor in model.graph.initializer:
        if tensor.name.startswith(NETWORK):
            constant = TensorProto()
            constant.CopyFrom(tensor)
            constant.name = tensor.name.removeprefix(NETWORK)
            tensors[constant.name] = constant
    return nodes, tensors


class _Graph:
    """Nodes and constants around a network."""

    def __init__(self, pixels: PixelFormat) -> None:
        self._pixels = pixels
        self._type, self._white = _TYPES[pixels.dtype]
        self.nodes: list[NodeProto] = []
        self.tensors: list[TensorProto] = []

    def value(self, name: str, size: Sequence[int | str]) -> onnx.ValueInfoProto:
        """Return the declaration of the input or the output."""
        channels = CHANNELS[self._pixels.channels]
        shape = ["batch", *size, channels]
        if self._pixels.layout == "nchw":
            shape = ["batch", channels, *size]
        return helper.make_tensor_value_info(name, self._type, shape)

    def add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add a node named after its output, and return that name."""
        name = output.removeprefix(NETWORK)  # the node that feeds the network is not part of it
        self.nodes.append(helper.make_node(kind, inputs, [output], name, **attributes))
        return output

    def constant(self, name: str, values: object, dtype: type = np.float32) -> str:
        """Add a constant and return its name."""
        self.tensors.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def take_apart(self, luma: str) -> str | None:
        """Compute luma (N, 1, H, W) in [0, 1]; return chroma (N, 2, H, W), or None for grey."""
        # The cast comes first, as TensorRT transposes only floats.
        image = self.add("Cast", [INPUT], "floats", to=TensorProto.FLOAT)
        if self._pixels.layout == "nhwc":
            image = self.add("Transpose", [image], "planes", perm=[0, 3, 1, 2])
        if self._pixels.channels == "grey":
            self.add("Div", [image, self.constant("white", self._white)], luma)
            return None
        matrix, offset = self._ordered(FROM_RGB[:, :3].T).T / self._white, FROM_RGB[:, 3]
        weights = self.constant("ycbcr.weight", matrix[:, :, None, None])
        ycbcr = self.add("Conv", [image, weights, self.constant("ycbcr.bias", offset)], "ycbcr")
        parts = self.constant("parts", [1, 2], np.int64)
        split = helper.make_node("Split", [ycbcr, parts], [luma, "chroma"], "split", axis=1)
        self.nodes.append(split)
        return "chroma"

    def _ordered(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return rows for R, G and B in the order of the channels."""
        return rows[::-1] if self._pixels.channels == "bgr" else rows

    def enlarged(self, planes: str, scale: int) -> str:
        """Enlarge two planes bicubically, by a convolution for each place between pixels."""
        places = (np.arange(scale) + 0.5) / scale - 0.5
        taps = _cubic(places[:, None] - np.arange(-_REACH, _REACH + 1))
        kernels = np.einsum("ay,bx->abyx", taps, taps).reshape(-1, 1, *[2 * _REACH + 1] * 2)
        around = [0, 0, _REACH, _REACH]
        pads = self.constant("chroma.pads", around * 2, np.int64)
        padded = self.add("Pad", [planes, pads], "chroma.padded", mode="edge")
        weights = self.constant("chroma.weight", np.concatenate([kernels, kernels]))
        phases = self.add("Conv", [padded, weights], "chroma.phases", group=2)
        return self.add("DepthToSpace", [phases], "chroma.enlarged", blocksize=scale, mode="CRD")

    def put_together(self, luma: str, chroma: str | None) -> None:
        """Compute the output from planes in [0, 1]."""
        image = luma
        if chroma:
            ycbcr = self.add("Concat", [luma, chroma], "upscaled.ycbcr", axis=1)
            rows = self._ordered(TO_RGB * self._white)
            weights = self.constant("rgb.weight", rows[:, :3, None, None])
            bias = self.constant("rgb.bias", rows[:, 3])
            image = self.add("Conv", [ycbcr, weights, bias], "upscaled.levels")
        elif self._white != 1:
            image = self.add("Mul", [luma, "white"], "upscaled.levels")
        ends = [self.constant("black", 0), self.constant("most", self._white)]
        image = self.add("Clip", [image, *ends], "upscaled.clipped")
        if self._white != 1:
            image = self.add("Round", [image], "upscaled.rounded")
        if self._pixels.layout == "nhwc":
            image = self.add("Transpose", [image], "upscaled.pixels", perm=[0, 2, 3, 1])
        self.add("Cast", [image], OUTPUT, to=self._type)


def _cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the kernel of cubic convolution (R. Keys, 1981) with the parameter `_A`."""
    x = np.abs(distance)
    near = (_A + 2) * x**3 - (_A + 3) * x**2 + 1
    far = _A * x**3 - 5 * _A * x**2 + 8 * _A * x - 4 * _A
    return np.where(x <= 1, near, np.where(x < 2, far, 0))
