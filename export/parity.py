"""Is a graph the network it was made from? Judged on shapes and inputs that break things."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from hfdn_deploy.bundle import Gate, Parity, ParityCase
from hfdn_deploy.errors import GateError
from hfdn_deploy.network.hfdn import HFDN
from hfdn_deploy.photographs import photographs
from hfdn_deploy.quality import PEAK, crop_to_multiple, degrade, luma8, psnr, to_levels

Array = NDArray[np.float32]
Run = Callable[[Array], Array]

# Limits by precision, each on a figure of `_measure`:
#   not_finite    outputs with NaN, infinity or another shape than the reference's
#   max_abs       largest absolute difference over the grid, on the scale 0..1
#   max_levels    the same in levels of 255
#   psnr_loss_db  what the photographs lose, on average, in PSNR against their originals
GATES = {
    "fp32": {"not_finite": 0.0, "max_abs": 1e-4},
    "fp16": {"not_finite": 0.0, "max_levels": 1.0, "psnr_loss_db": 0.01},
}

# By how much of its largest value a layer's output may depart before it is named.
DEPARTURE = {"fp32": 1e-4, "fp16": 1e-2}

SHAPES = {
    "1×1": (1, 1, 1, 1),
    "1×7": (1, 1, 1, 7),
    "7×1": (1, 1, 7, 1),
    "odd": (1, 1, 15, 33),
    "prime": (1, 1, 31, 37),
    "wide": (1, 1, 6, 160),
    "tall": (1, 1, 160, 6),
    "batch of 3": (3, 1, 16, 24),
}
# Height and width of the synthetic inputs and of the photographs' crops.
SIZE = (48, 64)


@dataclass(frozen=True)
class Case:
    """One input of the parity grid."""

    name: str
    lr: Array
    """Luma (N, 1, H, W) in [0, 1]."""
    original: NDArray[np.uint8] | None = None
    """Of a photograph, (sH, sW) luma 0..255."""


def grid(scale: int) -> list[Case]:
    """All inputs that a graph is judged on."""
    rng = np.random.default_rng(0)
    cases = [
        Case(f"noise, {name}", rng.random(shape, dtype=np.float32))
        for name, shape in SHAPES.items()
    ]
    row, column = np.indices(SIZE)
    synthetic = {
        "black": np.zeros(SIZE),
        "white": np.ones(SIZE),
        "noise": rng.random(SIZE),
        "step": column >= SIZE[1] // 2,
        "checkerboard": (row + column) % 2,
    }
    for name, picture in synthetic.items():
        cases.append(Case(name, picture.astype(np.float32)[None, None]))
    for name, photograph in photographs().items():
        hr = crop_to_multiple(luma8(photograph), scale)
        lr = (degrade(hr, scale) / PEAK).astype(np.float32)
        top, left = (max(n - size, 0) // 2 for n, size in zip(lr.shape, SIZE, strict=True))
        lr = lr[top : top + SIZE[0], left : left + SIZE[1]]
        hr = hr[scale * top :, scale * left :][: scale * lr.shape[0], : scale * lr.shape[1]]
        cases.append(Case(f"photograph {name}", np.ascontiguousarray(lr[None, None]), hr))
    return cases


def reference(network: HFDN) -> Run:
    """The network in PyTorch as a function of arrays."""

    def run(lr: Array) -> Array:
        with torch.inference_mode():
            return np.asarray(network(torch.from_numpy(lr)).numpy())

    return run


def candidate(model: onnx.ModelProto) -> Run:
    """A graph in ONNX Runtime on the CPU as a function of arrays."""
    name = model.graph.input[0].name
    try:
        session = ort.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # its exceptions share no base class but this
        raise GateError(f"ONNX Runtime refuses the graph: {error}") from None

    def run(lr: Array) -> Array:
        try:
            return np.asarray(session.run(None, {name: lr})[0])
        except Exception as error:
            raise GateError(f"the graph fails on an input of shape {lr.shape}: {error}") from None

    return run


def compare(run: Run, reference: Run, scale: int, precision: str) -> Parity:
    """Hold a graph's outputs to the reference's over the whole grid."""
    cases, losses = [], []
    digest = hashlib.sha256()
    bar = tqdm(grid(scale), desc=f"parity {precision}", unit="case", disable=None, leave=False)
    for case in bar:
        output, expected = run(case.lr), reference(case.lr)
        cases.append(_measure(case, output, expected))
        if case.original is not None:
            digest.update(case.original.tobytes())
            if output.shape == expected.shape:
                before, after = (_psnr(case.original, x, scale) for x in (expected, output))
                losses.append(before - after)
    # NaN compares false with everything, so it must not be what `max` starts from.
    worst = max(cases, key=lambda case: (np.isnan(case.max_abs), case.max_abs))
    figures = {
        "not_finite": float(sum(not np.isfinite(case.max_abs) for case in cases)),
        "max_abs": worst.max_abs,
        "max_levels": worst.max_abs * PEAK,
        "psnr_loss_db": float(np.mean(losses)) if losses else float("nan"),
    }
    gates = tuple(Gate(name, figures[name], limit) for name, limit in GATES[precision].items())
    passed = all(gate.value <= gate.limit for gate in gates)
    return Parity(passed, gates, digest.hexdigest(), worst, tuple(cases))


def _psnr(original: NDArray[np.uint8], output: Array, scale: int) -> float:
    with np.errstate(invalid="ignore"):
        return psnr(original, to_levels(output[0, 0] * PEAK), scale)


def _measure(case: Case, output: Array, expected: Array) -> ParityCase:
    if output.shape != expected.shape:
        return ParityCase(case.name, case.lr.shape, float("nan"), float("nan"), None)
    difference = np.abs(output.astype(np.float64) - expected)
    worst = float(difference.max())
    flat = expected.reshape(-1, expected.shape[-1]) * PEAK
    decibels = psnr(output.reshape(flat.shape) * PEAK, flat) if worst else None
    return ParityCase(case.name, case.lr.shape, worst, float(difference.mean()), decibels)


def locate(model: onnx.ModelProto, network: HFDN, case: str, precision: str) -> str:
    """The first convolution in the graph whose output departs from the module of its name.

    Args:
        model: the graph; its convolutions bear the names of the network's modules.
        case: the name of the input to run, as in `ParityCase.name`.
        precision: the graph's, which says how much departure is to be expected.

    Returns:
        The node's name and by how much it departs, relative to the largest value there.
    """
    lr = next(c.lr for c in grid(network.config.scale) if c.name == case)
    expected = _module_outputs(network, lr)
    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    names = [node.output[0] for node in model.graph.node if node.name in expected]
    kept = {value.name for value in model.graph.output}
    probed.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in kept)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        probed.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    outputs = session.run(names, {model.graph.input[0].name: lr})
    for name, output in zip(names, outputs, strict=True):
        wanted = expected[name]
        departure = float(np.abs(output - wanted).max()) / max(float(np.abs(wanted).max()), 1e-6)
        if not departure <= DEPARTURE[precision]:
            return f"{name} (off by {departure:.2g} of its largest value)"
    return f"behind {names[-1]}, in what combines the levels"


def _module_outputs(network: HFDN, lr: Array) -> dict[str, Array]:
    """Outputs of the network's convolutions by module name."""
    outputs: dict[str, Array] = {}
    handles = []
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):

            def keep(_: object, __: object, output: torch.Tensor, name: str = name) -> None:
                outputs[name] = output.numpy()

            handles.append(module.register_forward_hook(keep))
    try:
        reference(network)(lr)
    finally:
        for handle in handles:
            handle.remove()
    return outputs
