"""Effect of each optimisation of INT8 in OpenVINO on latency on this CPU."""

import argparse
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import onnx

from hfdn_deploy.backends import compile_graph
from hfdn_deploy.bench import MACS, Measurement, measure, photographs, products
from hfdn_deploy.bundle import Bundle, pretrained
from hfdn_deploy.cli import positive
from hfdn_deploy.graph import pixels_by_rows
from hfdn_deploy.images import ImagePlanes

SIZE = (180, 320)
# Graph, precision outside the integer layers, whether the input size is fixed, and whether pixels
# are sorted by rows.
STEPS = {
    "fp32 around, any size": ("int8-openvino", "f32", False, False),
    "bf16 around, any size": ("int8-openvino-bf16", "bf16", False, False),
    "fp32 around, this size": ("int8-openvino", "f32", True, False),
    "fp32 around, this size, by rows": ("int8-openvino", "f32", True, True),
    "bf16 around, this size, by rows": ("int8-openvino-bf16", "bf16", True, True),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `python -m benchmarks steps`."""
    parser.add_argument("--scale", type=int, nargs="+", default=[2, 3, 4], choices=(2, 3, 4))
    parser.add_argument("--rounds", type=positive, default=10)


def main(args: argparse.Namespace) -> None:
    """Print latencies, and ratios to the first step and to a matrix product in int8."""
    photograph = next(iter(photographs().values()))
    luma = ImagePlanes(photograph[: SIZE[0], : SIZE[1]]).luma
    lr = np.ascontiguousarray(luma[None, None])
    print(
        "| scale | step | latency (middle half) | × the first | × the limit |\n"
        "|---|---|---|---|---|"
    )
    for scale in args.scale:
        bundle = pretrained(scale)
        runs: dict[str, Callable[[], object]] = dict(products("int8"))
        limits = list(runs)
        for name, step in STEPS.items():
            request = _request(bundle, *step, lr.shape)
            runs[name] = partial(request.infer, [lr], share_inputs=True)
        times = measure(runs, args.rounds)
        best = np.min([times[name].samples for name in limits], axis=0)
        macs = bundle.manifest.macs_true * scale**2 * math.prod(SIZE) / (1280 * 720)
        limit = Measurement(tuple(best * macs / MACS))
        first = times[next(iter(STEPS))]
        for name in STEPS:
            ratios = [times[name].ratio(base) for base in (first, limit)]
            shown = " | ".join(f"{ratio:.2f}" for ratio in ratios)
            print(f"| ×{scale} | {name} | {times[name]} | {shown} |")


def _request(
    bundle: Bundle, graph: str, hint: str, fixed: bool, by_rows: bool, shape: tuple[int, ...]
) -> Any:
    data = bundle.read_model(graph)
    if by_rows:
        data = pixels_by_rows(onnx.load_model_from_string(data)).SerializeToString()
    return compile_graph(data, hint, (("lr", shape),) if fixed else None).create_infer_request()
