"""Peak memory of an upscaling against the memory model by which tiles are chosen."""

import argparse
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from hfdn_deploy.bundle import PRECISIONS
from hfdn_deploy.errors import BackendError
from hfdn_deploy.tiling import WHOLE, Footprint, Plan
from hfdn_deploy.upscaler import Upscaler

# Height and width of the image, and its tiles.
RUNS = (
    ((180, 320), WHOLE),
    ((360, 640), WHOLE),
    *(((360, 640), Plan(side, keeps)) for side in (64, 160) for keeps in (False, True)),
)


@dataclass(frozen=True)
class Peak:
    """Memory of one upscaling, in bytes."""

    measured: int
    """Peak resident size minus the resident size before the run."""
    predicted: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `python -m benchmarks memory`."""
    parser.add_argument("--scale", type=int, default=4, choices=(2, 3, 4))
    parser.add_argument("--model", type=Path, help="bundle or checkpoint instead of the package's")
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=["fp32", "int8"])


def main(args: argparse.Namespace) -> None:
    """Print measured and predicted peaks for whole images and for tiles."""
    print(
        "| precision | image | tile | features | peak | predicted | ratio |\n"
        "|---|---|---|---|---|---|---|"
    )
    for precision in args.precision:
        for size, plan in RUNS:
            peak = measure(args.model or args.scale, args.backend, precision, size, plan)
            features = ("twice", "kept")[plan.keeps] if plan.side else ""
            print(
                f"| {precision} | {size[1]}×{size[0]} | {plan.side or 'whole'} | {features} "
                f"| {peak.measured / 2**20:.0f} MiB | {peak.predicted / 2**20:.0f} MiB "
                f"| {peak.predicted / peak.measured:.2f} |"
            )


def measure(
    model: int | Path, backend: str, precision: str, size: tuple[int, int], plan: Plan
) -> Peak:
    """Return the peak of a new process that upscales RGB noise (H, W) once, in tiles or whole."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measure, model, backend, precision, size, plan).result()


def _measure(
    model: int | Path, name: str, precision: str, size: tuple[int, int], plan: Plan
) -> Peak:
    with Upscaler.load(model, name, precision) as up:
        parts = up.backend.tiling
        if not (parts and parts.memory):
            raise BackendError(f"the memory use of {name} has not been measured.")
        # The first run of any size sets up the backend.
        up(np.zeros((2, 2, 3), np.uint8))
        picture = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
        held = up.scale**2 * picture.nbytes
        need = Footprint(*size, parts, channels=3, held=held).need(plan)
        # A budget of exactly `need` rules out keeping the features if the plan does not keep them.
        measured = Upscaler(up.backend, "", tile=plan.side, max_memory=need)
        # The peak begins again (proc(5)); opening the model may have had a higher one.
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before = _status("VmRSS")
        measured(picture)
        return Peak(_status("VmHWM") - before, need)


def _status(name: str) -> int:
    """Return a memory size of this process in bytes, from Linux's /proc."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (line,) = (line for line in lines if line.startswith(name))
    return int(line.split()[1]) * 1024
