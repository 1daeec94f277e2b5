"""An fp32 graph in PyTorch, whose gradients tell how much noise in a tensor affects the output."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from onnx import NodeProto
from torch import Tensor

from export.sessions import Array
from hfdn_deploy.graph import GraphView, attributes_of

Read = Callable[[str, Tensor], Tensor]
"""From a tensor's name and values to the values that are read."""


class TorchGraph:
    """The fp32 graph of an HFDN in PyTorch.

    Raises:
        NotImplementedError: the graph has an operator that an HFDN does not have.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._view = GraphView(model)
        constants = self._view.constants.items()
        self._constants = {name: torch.from_numpy(values.copy()) for name, values in constants}

    def run(self, lr: Tensor, read: Read = lambda name, values: values) -> dict[str, Tensor]:
        """Return all tensors of the graph by name.

        Args:
            lr: (N, 1, H, W) in [0, 1].
            read: changes the values that convolutions and activations read, as a Q/DQ pair would.
        """
        tensors = self._constants | {self._view.inputs[0].name: lr}
        for node in self._view.nodes:
            inputs = [tensors[name] for name in node.input]
            if node.op_type in ("Conv", "ConvTranspose", "LeakyRelu"):
                inputs[0] = read(node.input[0], inputs[0])
            tensors[node.output[0]] = _compute(node, inputs)
        return tensors

    def __call__(self, lr: Tensor) -> Tensor:
        """Return the output, (N, 1, sH, sW)."""
        return self.run(lr)[self._view.outputs[0].name]

    def gains(
        self, tensors: Sequence[str], images: Iterable[Array]
    ) -> dict[str, NDArray[np.float64]]:
        """Return what white noise of variance 1 in a channel adds to the output's mean square.

        One random vector per image estimates it: for signs v at the output, the gradient of v · sr
        by the noise is Jᵀv, whose expected squares are the squared column norms of J
        (M. Hutchinson, "A stochastic estimator of the trace of the influence matrix", 1990).

        Returns:
            (C,) by tensor; zero where no convolution or activation reads it.
        """
        random = torch.Generator().manual_seed(0)
        sums: dict[str, Tensor] = {}
        count = 0
        for lr in images:
            with torch.no_grad():
                values = self.run(torch.from_numpy(lr))
            noise = {name: torch.zeros_like(values[name], requires_grad=True) for name in tensors}
            noisy = partial(_add, noise)
            sr = self.run(torch.from_numpy(lr), noisy)[self._view.outputs[0].name]
            signs = torch.randint(0, 2, sr.shape, generator=random) * 2.0 - 1.0
            gradients = torch.autograd.grad(
                (signs * sr).sum(), list(noise.values()), allow_unused=True, materialize_grads=True
            )
            for name, gradient in zip(tensors, gradients, strict=True):
                square = (gradient[0].double() ** 2).sum((1, 2)) / sr.numel()
                sums[name] = sums.get(name, torch.zeros_like(square)) + square
            count += 1
        return {name: np.asarray(total.numpy()) / count for name, total in sums.items()}


def _add(noise: Mapping[str, Tensor], name: str, values: Tensor) -> Tensor:
    return values + noise[name] if name in noise else values


def _compute(node: NodeProto, inputs: Sequence[Tensor]) -> Tensor:
    attributes = attributes_of(node)
    x, *others = inputs
    match node.op_type:
        case "Conv" | "ConvTranspose":
            weight, bias = others[0], others[1] if len(others) > 1 else None
            stride = tuple(attributes.get("strides", (1, 1)))
            padding = tuple(attributes.get("pads", (0, 0))[:2])
            if node.op_type == "Conv":
                return F.conv2d(x, weight, bias, stride, padding)
            return F.conv_transpose2d(x, weight, bias, stride, padding)
        case "LeakyRelu":
            return F.leaky_relu(x, attributes["alpha"])
        case "Add":
            return x + others[0]
        case "Mul":
            return x * others[0]
        case "Concat":
            return torch.cat([x, *others], 1)
        case "Sigmoid":
            return x.sigmoid()
        case "GlobalAveragePool":
            return x.mean((2, 3), keepdim=True)
        case "DepthToSpace":
            return F.pixel_shuffle(x, attributes["blocksize"])
        case "Pad" if attributes["mode"] == b"edge":
            top, left, bottom, right = (others[0].tolist()[i] for i in (2, 3, 6, 7))
            return F.pad(x, (left, right, top, bottom), "replicate")
    raise NotImplementedError(f"{node.name} is a {node.op_type}, which is not implemented here")
