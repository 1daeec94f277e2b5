"""Adversarial search for small changes of realistic images that move INT8 furthest from fp32."""

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import onnx
import torch
from torch import Tensor

from export.departure import Sample, departure
from export.equalization import equalized
from export.kinds import KINDS, to_input
from export.quantization import DIALECTS
from export.sessions import Array, candidate
from export.torch_graph import TorchGraph
from hfdn_deploy.bundle import Bundle, Quantization, named_bundle
from hfdn_deploy.cli import positive, printable
from hfdn_deploy.graph import FOR_OPENVINO

STARTS = ("photographs", "text and screens", "drawings and comics", "gradients")
# Largest change of a pixel, and the step of the search, on the scale 0..1.
RADIUS, STEP = 8 / 255, 2 / 255
# At most so many images of each kind are searched, drawn from a seed that the gates do not judge.
IMAGES, SEED = 5, 1
# Largest departure in levels that a search from any start may find: 1.36 times the largest that it
# found in the shipped bundle of x4.
LIMIT = 120.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `python -m benchmarks adversary`."""
    parser.add_argument(
        "--model", nargs="+", default=["x4"], help="bundles, or x2, x3 or x4 for the package's"
    )
    parser.add_argument("--steps", type=positive, default=20)


def main(args: argparse.Namespace) -> None:
    """Print the departures before and after the search, by graph and kind."""
    bundles = {printable(model): named_bundle(model) for model in args.model}
    print(
        "| model | graph | start | max levels | after the search | rms levels | after the search |"
    )
    print("|---|---|---|---|---|---|---|")
    for (model, bundle), kind in product(bundles.items(), STARTS):
        drawn = KINDS[kind](np.random.default_rng(SEED))
        images = drawn[:: math.ceil(len(drawn) / IMAGES)]
        for found in search(bundle, list(map(to_input, images)), args.steps):
            print(f"| {model} | {found.graph} | {kind} | {found}", flush=True)


@dataclass(frozen=True)
class Found:
    """Departures of a graph in levels of 255, before and after the search."""

    graph: str
    most: tuple[float, float]
    rms: tuple[float, float]

    def __str__(self) -> str:
        return " | ".join(f"{x:.2f}" for x in (*self.most, *self.rms)) + " |"


def search(bundle: Bundle, images: list[Array], steps: int) -> Iterator[Found]:
    """Search from images for larger departures of a bundle's INT8 graphs in ONNX Runtime.

    A. Madry et al., "Towards deep learning models resistant to adversarial attacks", 2018: steps
    along the sign of the gradient, kept within `RADIUS`. The gradient is computed in an emulation
    of the graph: clipping stops it, rounding passes it through.

    Args:
        bundle: a bundle with INT8 graphs.
        images: (1, 1, H, W) in [0, 1].
        steps: steps of the search.
    """
    quantization = bundle.manifest.quantization
    assert quantization is not None
    models = {
        name: onnx.load_model_from_string(bundle.read_model(name)) for name in ("fp32", *DIALECTS)
    }
    reference = candidate(models["fp32"])
    scale = bundle.manifest.scale
    for name in DIALECTS:
        differ = _emulation(models["fp32"], quantization, name)
        changed = [_ascend(differ, lr, steps) for lr in images]
        graphs = {name: models[name]}
        if name == "int8-cpu":
            graphs["int8-openvino"] = FOR_OPENVINO["int8-openvino"](models[name])
        for key, model in graphs.items():
            run = candidate(model)
            rows = [
                departure("", list(map(Sample, some)), run, reference, scale)
                for some in (images, changed)
            ]
            most, rms = ([getattr(row, x) for row in rows] for x in ("max_levels", "rms_levels"))
            yield Found(key, (most[0], most[1]), (rms[0], rms[1]))


def _emulation(
    full: onnx.ModelProto, quantization: Quantization, name: str
) -> Callable[[Tensor], Tensor]:
    """Return the difference between fp32 and a graph with 8-bit activations and exact weights."""
    ranges = quantization.ranges[name]
    exact = TorchGraph(full)
    rounded = TorchGraph(equalized(full, ranges.channel_scales))
    (output,) = (value.name for value in full.graph.output)

    def read(tensor: str, values: Tensor) -> Tensor:
        if tensor not in ranges.limits:
            return values
        low, high = ranges.limits[tensor]
        step = (high - low) / DIALECTS[name].steps
        kept = values.clamp(low, high)
        return kept + (torch.round(kept / step) * step - kept).detach()

    return lambda lr: rounded.run(lr, read)[output] - exact(lr)


def _ascend(differ: Callable[[Tensor], Tensor], lr: Array, steps: int) -> Array:
    start = torch.from_numpy(lr)
    best, most = start, 0.0
    image = start.clone().requires_grad_(True)
    for _ in range(steps):
        difference = differ(image)
        if float(difference.detach().abs().max()) > most:
            best, most = image.detach().clone(), float(difference.detach().abs().max())
        # A high power approximates the maximum and is smooth.
        (gradient,) = torch.autograd.grad((64 * difference).pow(8).sum(), image)
        moved = image.detach() + STEP * gradient.sign()
        near = torch.maximum(torch.minimum(moved, start + RADIUS), start - RADIUS)
        image = near.clamp(0, 1).requires_grad_(True)
    return np.asarray(best.numpy())
