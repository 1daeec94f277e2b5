"""Limits of a GPU, and HFDN's latency on it: three ways in PyTorch, and on every backend."""

import argparse
import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import onnx
import torch

from benchmarks.ceilings import COLUMNS, Ceilings, Layer, layers_of
from hfdn_deploy import bench
from hfdn_deploy.atomic import replaced
from hfdn_deploy.backends import TorchCudaBackend
from hfdn_deploy.bench import ON_GPU, Measurement, environment_facts, measure
from hfdn_deploy.bundle import pretrained, pretrained_scales
from hfdn_deploy.cli import positive
from hfdn_deploy.errors import HFDNError, first_line
from hfdn_deploy.network import load_bundle

logger = logging.getLogger(__name__)

TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# Only one precision is compiled: it takes about 15 seconds per network and size.
_COMPILED = "fp16"
# Inductor writes GPU kernels with Triton; on a CPU it would compile C++, another path.
_COMPILER = {"cuda": "inductor", "cpu": "aot_eager"}
# Width and height of the inputs: ×4 gives 720p and 2160p.
SIZES = ((320, 180), (960, 540))
# Side of the matrices in the product, and bytes of the copy, by device ("cpu" simulates a GPU).
_LARGE = {"cuda": (8192, 2**30), "cpu": (512, 2**24)}


@dataclass(frozen=True)
class Bench:
    """The device to measure on, the input sizes and the number of rounds."""

    device: str
    """"cuda", or "cpu" if a GPU is simulated."""
    sizes: tuple[tuple[int, int], ...]
    rounds: int

    def clocked(self, run: Callable[[], object]) -> tuple[Callable[[], None], list[float]]:
        """Return a timed version of `run` that waits for the device, and its list of seconds."""
        seconds: list[float] = []

        def timed() -> None:
            if self.device == "cpu":
                start = time.perf_counter()
                run()
                seconds.append(time.perf_counter() - start)
                return
            begun, done = (torch.Event("cuda", enable_timing=True) for _ in range(2))
            begun.record()
            run()
            done.record()
            done.synchronize()
            seconds.append(begun.elapsed_time(done) / 1000)

        return timed, seconds

    def measured(self, runs: dict[str, Callable[[], object]]) -> dict[str, Measurement]:
        """Measure the runs in turns, by the clock of the device."""
        timed = {name: self.clocked(run) for name, run in runs.items()}
        measure({name: run for name, (run, _) in timed.items()}, self.rounds)
        return {name: Measurement(tuple(s[-self.rounds :])) for name, (_, s) in timed.items()}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `python -m benchmarks gpu`."""
    parser.add_argument("output", type=Path, help="folder for report.md and results.json")
    parser.add_argument("--rounds", type=positive, default=30)
    parser.add_argument(
        "--simulate", action="store_true",
        help="run ×2 on the CPU with small images; the figures say nothing about a GPU",
    )  # fmt: skip


def main(args: argparse.Namespace) -> None:
    """Write a report; a section that fails is reported in it, and the others still run.

    Raises:
        HFDNError: the output cannot be written.
    """
    where, scales = Bench("cuda", SIZES, args.rounds), pretrained_scales()
    if args.simulate:
        where, scales = Bench("cpu", ((16, 9),), min(args.rounds, 2)), scales[:1]
    args.output.mkdir(parents=True, exist_ok=True)
    report = [f"# HFDN on {'a simulated GPU' if args.simulate else 'a GPU'}", ""]
    results: dict[str, Any] = {"environment": environment_facts()}

    @contextmanager
    def section(title: str) -> Iterator[None]:
        start = time.perf_counter()
        report.extend([f"## {title}", ""])
        try:
            yield
        except (HFDNError, RuntimeError, ImportError) as error:
            report.append(f"Failed: {first_line(error)}")
            logger.warning("%s failed: %s", title, first_line(error))
        report.extend(["", f"({time.perf_counter() - start:.0f} s)", ""])
        _write(args.output, report, results)

    with section("Machine"):
        report.append(f"```\n{json.dumps(results['environment'], indent=1)}\n```")
    reached: Ceilings | None = None
    with section("Ceilings"):
        reached = ceilings(where)
        results["ceilings"] = vars(reached)
        report.extend(_told(reached))
    for scale in scales:
        with section(f"×{scale} in PyTorch"):
            rows = in_pytorch(where, scale)
            results[f"x{scale} in PyTorch"] = {name: m.samples for name, (*_, m) in rows.items()}
            report.extend(_table(scale, rows, reached))
    for scale in scales:
        with section(f"×{scale} on the backends"):
            result = on_backends(where, scale)
            results[f"x{scale} on the backends"] = result.to_json()
            report.append(bench.format_table(result))
            report.extend(_of_ceilings(scale, result, reached))
    with section("Machine afterwards"):
        report.append(f"```\n{json.dumps(environment_facts()['gpu'], indent=1)}\n```")
    print(args.output / "report.md")


def _write(folder: Path, report: list[str], results: dict[str, Any]) -> None:
    for name, text in (("report.md", "\n".join(report)), ("results.json", json.dumps(results))):
        with replaced(folder / name) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")


def ceilings(where: Bench) -> Ceilings:
    """Measure a large matrix product in each precision, and a large copy."""
    side, size = _LARGE[where.device]
    random = partial(torch.rand, side, side, device=where.device)
    products: dict[str, Callable[[], object]] = {
        name: partial(torch.mm, random().to(dtype), random().to(dtype))
        for name, dtype in TYPES.items()
    }
    eight = [(100 * random()).to(torch.int8) for _ in range(2)]
    # cuBLASLt requires the second matrix in column-major order.
    products["int8"] = partial(torch._int_mm, eight[0], eight[1].t())
    source = torch.rand(size // 4, device=where.device)
    target = torch.empty_like(source)
    with _exact():
        found = where.measured({**products, "copy": partial(target.copy_, source)})
    rates = {name: side**3 / found[name].percentile(50) for name in products}
    return Ceilings(rates, 2 * size / found["copy"].percentile(50))


@contextmanager
def _exact() -> Iterator[None]:
    """Compute fp32 in fp32, not in TensorFloat-32."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


Row = tuple[str, str, tuple[int, int], Measurement]
"""Way of running, precision, size of the input, and the measurement."""


def in_pytorch(where: Bench, scale: int) -> dict[str, Row]:
    """Measure the network in eager mode, compiled, and as backend `torch-cuda`, luma on device."""
    torch.compiler.reset()  # earlier networks count against its recompilation limit
    rows: dict[str, Row] = {}
    for size in where.sizes:
        runs: dict[str, Callable[[], object]] = {}
        kinds = {}
        for precision, dtype in TYPES.items():
            ours = TorchCudaBackend(load_bundle(pretrained(scale)), precision, where.device)
            network = load_bundle(pretrained(scale)).to(where.device, dtype)
            lr = torch.rand(1, 1, *size[::-1], device=where.device)
            given: Any = lr if where.device == "cuda" else lr.numpy()
            ways: dict[str, Callable[[], object]] = {
                "eager": partial(network, lr.to(dtype)),
                "torch-cuda": partial(ours.run, given),
            }
            if precision == _COMPILED:
                compiled = torch.compile(network, dynamic=False, backend=_COMPILER[where.device])
                ways["torch.compile"] = partial(compiled, lr.to(dtype))
            for way, run in ways.items():
                name = f"{way} {precision} {size[0]}x{size[1]}"
                runs[name], kinds[name] = run, (way, precision, size)
        with _exact(), torch.inference_mode():
            found = where.measured(runs)
        rows |= {name: (*kinds[name], found[name]) for name in runs}
    return rows


def on_backends(where: Bench, scale: int) -> bench.BenchResult:
    """Run `hfdn bench` for a bundle of the package on the backends that are available here."""
    backends = ON_GPU if where.device == "cuda" else ("onnxruntime",)
    cases = bench.plan([f"x{scale}"], backends, ("fp32", "fp16", "bf16", "int8"))
    usable = bench.skip_unavailable(cases, where.sizes)
    return bench.run(usable, where.sizes, bench.load_original(None), where.rounds, 0)


def _told(reached: Ceilings) -> list[str]:
    lines = ["| limit | reached |", "|---|---|"]
    lines += [f"| product in {n} | {r / 1e12:.2f} TMAC/s |" for n, r in reached.rates.items()]
    return [*lines, f"| copy | {reached.bandwidth / 1e9:.0f} GB/s |"]


def _table(scale: int, rows: dict[str, Row], reached: Ceilings | None) -> list[str]:
    lines = _head("way", "precision", "input", "median (middle half)", "of eager")
    for way, precision, size, found in rows.values():
        eager = rows[f"eager {precision} {size[0]}x{size[1]}"][-1]
        cells = [way, precision, f"{size[0]}×{size[1]}", str(found), f"{found.ratio(eager):.2f}"]
        lines.append(_row(cells, scale, size, precision, found, reached))
    return lines


def _of_ceilings(scale: int, result: bench.BenchResult, reached: Ceilings | None) -> list[str]:
    """Return a table of the backends; without a device clock, times include transfers."""
    lines = ["", *_head("backend", "precision", "input")]
    for row in result.rows:
        cells = [row.backend, row.precision, f"{row.size[0]}×{row.size[1]}"]
        lines.append(_row(cells, scale, row.size, row.precision, row.backend_alone, reached))
    return lines


def _head(*columns: str) -> list[str]:
    columns = (*columns, *COLUMNS)
    return [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]


def _row(
    cells: list[str],
    scale: int,
    size: tuple[int, int],
    precision: str,
    found: Measurement,
    reached: Ceilings | None,
) -> str:
    """Return a row of a table whose last columns are `COLUMNS`."""
    ceilings = ["-"] * len(COLUMNS)
    if reached:
        ceilings = reached.cells(_layers(scale, size), precision, found.percentile(50))
    return f"| {' | '.join(cells + ceilings)} |"


@cache
def _layers(scale: int, size: tuple[int, int]) -> list[Layer]:
    """Return the layers of a bundle of the package; all rows of a size share them."""
    return layers_of(onnx.load_model_from_string(pretrained(scale).read_model("fp32")), size)
