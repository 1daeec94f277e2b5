"""Latency of HFDN's precisions and of its peers on the same backend at the same output size."""

import argparse
import json
import logging
import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.costs import cost
from benchmarks.peers import PEERS, Peer, graph
from benchmarks.record import RECORD, recorded
from benchmarks.scatter import Point, scatter, style
from export.sessions import candidate
from hfdn_deploy.atomic import replaced
from hfdn_deploy.bench import (
    MACS,
    PIXELS,
    Measurement,
    load_original,
    make_pair,
    measure,
    prepare,
    products,
)
from hfdn_deploy.bundle import Manifest, pretrained
from hfdn_deploy.cli import positive
from hfdn_deploy.errors import BackendError, GateError, first_line
from hfdn_deploy.network import load_checkpoint
from hfdn_deploy.upscaler import Upscaler

logger = logging.getLogger(__name__)

# Precisions of HFDN by CPU backend.
PRECISIONS = {"onnxruntime": ("fp32", "int8"), "openvino": ("fp32", "bf16", "int8")}
CHECKPOINTS = Path(__file__).resolve().parent.parent / "checkpoints"
LIMIT = "matrix product"
COMPILED = "torch.compile"


@dataclass(frozen=True)
class Latency:
    """One network on one backend."""

    network: str
    backend: str
    precision: str
    parameters: int
    macs: int
    """True multiply-accumulates of one run."""
    psnr: str | None
    """PSNR on Set5, luma, in dB: HFDN's as measured with these weights, others' as published."""
    samples: tuple[float, ...]
    """Seconds, one per run."""

    @property
    def measurement(self) -> Measurement:
        return Measurement(self.samples)

    @property
    def rate(self) -> float:
        """Multiply-accumulates per second at the median latency."""
        return self.macs / self.measurement.percentile(50)


@dataclass(frozen=True)
class Latencies:
    """All rows of one run."""

    scale: int
    size: tuple[int, int]
    """Width and height of the input."""
    rows: tuple[Latency, ...]
    limit: float
    """Multiply-accumulates per second of an fp32 matrix product in the same rounds."""
    weights: str
    """Short hash of HFDN's checkpoint."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `python -m benchmarks latency`."""
    parser.add_argument("--scale", type=int, default=4, choices=(2, 3, 4))
    parser.add_argument(
        "--size", type=positive, nargs=2, default=(160, 90), metavar=("WIDTH", "HEIGHT")
    )
    parser.add_argument("--peers", action="store_true", help="measure the peers, too")
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--json", type=Path, help="write every sample to a file")
    parser.add_argument("--plots", type=Path, help="folder for the two plots")


def main(args: argparse.Namespace) -> None:
    """Measure, print a table, and plot."""
    size = args.size[0], args.size[1]
    found = run(args.scale, size, PEERS if args.peers else (), args.rounds)
    print(table(found))
    if args.json:
        with replaced(args.json) as temporary:
            temporary.write_text(json.dumps(asdict(found), indent=1) + "\n", encoding="utf-8")
        print(args.json)
    if args.plots:
        args.plots.mkdir(parents=True, exist_ok=True)
        for name, figure in plots(found).items():
            figure.savefig(args.plots / f"{name}.png", dpi=150)
            print(args.plots / f"{name}.png")


def run(scale: int, size: tuple[int, int], peers: Sequence[Peer], rounds: int) -> Latencies:
    """Measure HFDN on the backends available here, and the peers in fp32 on ONNX Runtime.

    Args:
        scale: upscaling factor.
        size: width and height of the input, a photograph.
        peers: the peers to measure; those without this scale are skipped.
        rounds: timed runs of each network.
    """
    picture = make_pair(load_original(None), size, scale)
    luma = np.ascontiguousarray(picture.luma[None, None])
    rgb = (picture.image / np.float32(255)).transpose(2, 0, 1)[None].astype(np.float32)
    share = scale**2 * math.prod(size) / PIXELS
    runs: list[Callable[[], object]] = []
    rows: list[Latency] = []
    with ExitStack() as stack:
        manifest = pretrained(scale).manifest
        macs = round(manifest.macs_true * share)
        for backend, precision, model in _hfdn(scale):
            try:
                up = stack.enter_context(Upscaler.load(model, backend, precision, tile=None))
            except (BackendError, GateError) as error:
                logger.warning("left out %s in %s: %s", backend, precision, error)
                continue
            prepare(up, luma.shape[2:])
            runs.append(partial(up.backend.run, luma))
            rows.append(_row(manifest, backend, precision, macs))
        try:
            runs.append(partial(compiled_by_pytorch(scale, luma.shape), luma))
            rows.append(_row(manifest, COMPILED, "bf16", macs))
        except RuntimeError as error:  # no C++ compiler
            logger.warning("left out %s: %s", COMPILED, first_line(error))
        wanted = [peer for peer in peers if scale in peer.scales]
        for peer in tqdm(wanted, "peers", disable=None, leave=False):
            model = graph(peer, scale)
            found = cost(model, scale)
            runs.append(partial(candidate(model), _input(peer, luma, rgb)))
            macs = round(found.macs_true * share)
            psnr = peer.published.psnr.get(scale)
            rows.append(Latency(peer.name, "onnxruntime", "fp32", found.parameters, macs, psnr, ()))
        candidates = {str(i): run for i, run in enumerate(runs)}
        times = measure({**candidates, LIMIT: products("fp32")["onnxruntime"]}, rounds)
    measured = [replace(row, samples=times[str(i)].samples) for i, row in enumerate(rows)]
    limit = MACS / times[LIMIT].percentile(50)
    return Latencies(scale, size, tuple(measured), limit, manifest.weights)


def _row(manifest: Manifest, backend: str, precision: str, macs: int) -> Latency:
    """Return HFDN's row, without samples."""
    psnr = recorded(manifest, "Set5", precision)
    if psnr is None:
        logger.warning("%s has no PSNR of weights %s in %s", RECORD, manifest.weights, precision)
    shown = None if psnr is None else f"{psnr:.2f}"
    return Latency("HFDN", backend, precision, manifest.parameters, macs, shown, ())


def _hfdn(scale: int) -> list[tuple[str, str, int | Path]]:
    """Return backend, precision and model of HFDN's rows."""
    return [
        ("torch", "fp32", CHECKPOINTS / f"hfdn_x{scale}.safetensors"),
        *((backend, name, scale) for backend, names in PRECISIONS.items() for name in names),
    ]


def compiled_by_pytorch(
    scale: int, shape: tuple[int, ...]
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Compile HFDN for one shape in bf16 and channels last, PyTorch's fastest form on a CPU.

    Raises:
        RuntimeError: it cannot be compiled here.
    """
    network = load_checkpoint(CHECKPOINTS / f"hfdn_x{scale}.safetensors").to(torch.bfloat16)
    compiled: Callable[[torch.Tensor], torch.Tensor] = torch.compile(network, dynamic=False)

    def run(luma: NDArray[np.float32]) -> NDArray[np.float32]:
        lr = torch.from_numpy(luma).to(torch.bfloat16, memory_format=torch.channels_last)
        with torch.inference_mode():
            sr: NDArray[np.float32] = compiled(lr).float().numpy()
        return sr

    run(np.zeros(shape, np.float32))
    return run


def _input(peer: Peer, luma: NDArray[np.float32], rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    return luma if peer.channels == 1 else rgb


def table(found: Latencies) -> str:
    """Return a Markdown table of the rows by latency, and the rank correlation with MACs."""
    width, height = found.size
    lines = [
        f"Input {width}×{height}, ×{found.scale}; median (middle half) of "
        f"{len(found.rows[0].samples)} rounds; "
        f"a matrix product in fp32 reaches {found.limit / 1e9:.0f} GMAC/s.",
        "",
        "| network | backend | precision | parameters | MACs | latency | GMAC/s | PSNR on Set5 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(found.rows, key=lambda row: row.measurement.percentile(50)):
        lines.append(
            f"| {row.network} | {row.backend} | {row.precision} | {row.parameters / 1e3:.0f}K "
            f"| {row.macs / 1e9:.1f}G | {row.measurement} | {row.rate / 1e9:.0f} "
            f"| {_psnr(row)} |"
        )
    if any(row.network == "HFDN" and row.psnr for row in found.rows):
        lines += ["", f"HFDN's PSNR was measured with the weights {found.weights}."]
    same = comparable(found)
    if len(same) > 2:
        fastest, slowest = (pick(same, key=lambda row: row.rate) for pick in (max, min))
        lines += [
            "",
            "On ONNX Runtime in fp32 the rank correlation of latency (Spearman's) is "
            f"{_rank_correlation([r.macs for r in same], same):.2f} with MACs and "
            f"{_rank_correlation([r.parameters for r in same], same):.2f} with parameters. A MAC "
            f"of {slowest.network} takes {fastest.rate / slowest.rate:.1f} times as long as one of "
            f"{fastest.network}.",
        ]
    return "\n".join(lines)


def _psnr(row: Latency) -> str:
    if row.psnr is None:
        return ""
    return row.psnr if row.network == "HFDN" else f"{row.psnr} (published)"


def comparable(found: Latencies) -> list[Latency]:
    """Return the rows that differ only in the network."""
    return [row for row in found.rows if (row.backend, row.precision) == ("onnxruntime", "fp32")]


def _rank_correlation(values: Sequence[float], rows: Sequence[Latency]) -> float:
    """Return Pearson's correlation of the ranks; ties are not expected."""
    latencies = [row.measurement.percentile(50) for row in rows]
    first, second = (np.argsort(np.argsort(series)) for series in (values, latencies))
    return float(np.corrcoef(first, second)[0, 1])


def plots(found: Latencies) -> dict[str, Figure]:
    """Plot latency against MACs, and PSNR against latency.

    HFDN's points are diamonds. Published PSNR is hollow.
    """
    macs, psnr = Figure((7.5, 5), layout="constrained"), Figure((7.5, 5), layout="constrained")
    axes = macs.add_subplot()
    ends = np.array([min(r.macs for r in found.rows), max(r.macs for r in found.rows)])
    axes.plot(
        ends / 1e9, 1e3 * ends / found.limit, "--", color="grey", linewidth=1,
        label="matrix product in fp32",
    )  # fmt: skip
    axes.legend(loc="lower right")
    axes.set(xscale="log", yscale="log", xlabel="GMACs", ylabel="latency, ms")
    axes.set_title("Latency against multiply-accumulates")
    scatter(axes, [_point(row, row.macs / 1e9, _milliseconds(row)) for row in found.rows])
    axes = psnr.add_subplot()
    axes.set(xscale="log", xlabel="latency, ms", ylabel="PSNR on Set5, dB")
    axes.set_title("PSNR against latency")
    axes.scatter([], [], label=f"measured, weights {found.weights}", **style(True, False))
    axes.scatter([], [], label="published", **style(False, True))
    axes.legend(loc="lower right")
    known = [_point(row, _milliseconds(row), float(row.psnr)) for row in found.rows if row.psnr]
    scatter(axes, known, published=True)
    return {"latency_macs": macs, "psnr_latency": psnr}


def _milliseconds(row: Latency) -> float:
    return 1e3 * row.measurement.percentile(50)


def _point(row: Latency, x: float, y: float) -> Point:
    own = row.network == "HFDN"
    short = {"onnxruntime": "ORT", "openvino": "OpenVINO", "torch": "PyTorch", COMPILED: COMPILED}
    name = f"HFDN {row.precision}, {short[row.backend]}" if own else row.network
    return Point(x, y, name, own)
