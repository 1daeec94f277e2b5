"""Is a graph the network it was made from? Judged on shapes and inputs that break things."""

from collections.abc import Callable, Iterator

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from hfdn_deploy.bundle import Parity, ParityCase
from hfdn_deploy.errors import GateError
from hfdn_deploy.network.hfdn import HFDN
from hfdn_deploy.photographs import photographs
from hfdn_deploy.quality import PEAK, crop_to_multiple, degrade, luma8, psnr

Array = NDArray[np.float32]
Run = Callable[[Array], Array]

# Largest absolute difference, on the scale 0..1, that a graph of each precision may show.
MAX_ABS_LIMIT = {"fp32": 1e-4}

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


def inputs(scale: int) -> Iterator[tuple[str, Array]]:
    """The parity grid: (name, luma (N, 1, H, W) in [0, 1])."""
    rng = np.random.default_rng(0)
    for name, shape in SHAPES.items():
        yield f"noise, {name}", rng.random(shape, dtype=np.float32)
    row, column = np.indices(SIZE)
    synthetic = {
        "black": np.zeros(SIZE),
        "white": np.ones(SIZE),
        "noise": rng.random(SIZE),
        "step": column >= SIZE[1] // 2,
        "checkerboard": (row + column) % 2,
    }
    for name, picture in synthetic.items():
        yield name, picture.astype(np.float32)[None, None]
    for name, photograph in photographs().items():
        lr = degrade(crop_to_multiple(luma8(photograph), scale), scale) / PEAK
        top, left = ((side - size) // 2 for side, size in zip(lr.shape, SIZE, strict=True))
        crop = lr[max(top, 0) :, max(left, 0) :][: SIZE[0], : SIZE[1]]
        yield f"photograph {name}", crop.astype(np.float32)[None, None]


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
    cases = []
    grid = list(inputs(scale))
    for name, lr in tqdm(grid, desc=f"parity {precision}", unit="case", disable=None, leave=False):
        cases.append(_case(name, lr.shape, run(lr), reference(lr)))
    # NaN compares false with everything, so it must not be what `max` starts from.
    worst = max(cases, key=lambda case: (np.isnan(case.max_abs), case.max_abs))
    limit = MAX_ABS_LIMIT[precision]
    return Parity(bool(worst.max_abs <= limit), limit, worst, tuple(cases))


def _case(name: str, shape: tuple[int, ...], output: Array, expected: Array) -> ParityCase:
    if output.shape != expected.shape:
        return ParityCase(name, shape, float("nan"), float("nan"), None)
    difference = np.abs(output.astype(np.float64) - expected)
    worst = float(difference.max())
    flat = expected.reshape(-1, expected.shape[-1]) * PEAK
    decibels = psnr(output.reshape(flat.shape) * PEAK, flat) if worst else None
    return ParityCase(name, shape, worst, float(difference.mean()), decibels)


def locate(model: onnx.ModelProto, network: HFDN, case: str) -> str:
    """The first convolution in the graph whose output departs from the module of its name.

    Args:
        model: the graph; its convolutions bear the names of the network's modules.
        case: the name of the input to run, as in `ParityCase.name`.

    Returns:
        The node's name and by how much it departs, relative to the largest value there.
    """
    lr = dict(inputs(network.config.scale))[case]
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
        if not departure <= MAX_ABS_LIMIT["fp32"]:
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
