"""Effect of ONNX Runtime's session options on latency on this CPU."""

import argparse
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime as ort
import psutil

from hfdn_deploy.backends import session_options
from hfdn_deploy.bench import measure, photographs
from hfdn_deploy.bundle import graph_for, pretrained
from hfdn_deploy.cli import positive

SIZE = (180, 320)


def _attribute(name: str, value: object) -> Callable[[Any], None]:
    return lambda options: setattr(options, name, value)


def _entry(key: str, value: str) -> Callable[[Any], None]:
    return lambda options: options.add_session_config_entry(key, value)


def _own_arena(options: Any) -> None:
    options.add_session_config_entry("session.use_env_allocators", "0")


def _no_arena(options: Any) -> None:
    _own_arena(options)
    options.enable_cpu_mem_arena = False


def variants() -> dict[str, Callable[[Any], None]]:
    """Return changes to the package's session options, by name."""
    cores = psutil.cpu_count(logical=False) or 1
    levels = ort.GraphOptimizationLevel
    return {
        "as set": lambda options: None,
        "1 thread": _attribute("intra_op_num_threads", 1),
        f"{2 * cores} threads": _attribute("intra_op_num_threads", 2 * cores),
        "no spinning": _entry("session.intra_op.allow_spinning", "0"),
        "own arena": _own_arena,
        "no arena": _no_arena,
        "memory pattern": _attribute("enable_mem_pattern", True),
        "basic optimisations": _attribute("graph_optimization_level", levels.ORT_ENABLE_BASIC),
        "denormals as zero": _entry("session.set_denormal_as_zero", "1"),
        "exact 8-bit products": _entry("session.x64quantprecision", "1"),
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `python -m benchmarks sessions`."""
    parser.add_argument("--scale", type=int, default=4, choices=(2, 3, 4))
    parser.add_argument("--precision", nargs="+", default=["fp32", "int8"])
    parser.add_argument("--rounds", type=positive, default=10)
    parser.add_argument("--json", action="store_true")


def main(args: argparse.Namespace) -> None:
    """Print median latencies, and median ratios to the options as set, taken round by round."""
    bundle = pretrained(args.scale)
    photograph = photographs()["camera"][: SIZE[0], : SIZE[1]]
    lr = (photograph / np.float32(255))[None, None]
    rows: dict[str, Any] = {}
    for precision in args.precision:
        data = bundle.read_model(graph_for(precision, "cpu"))
        runs = {name: _session(data, change, lr) for name, change in variants().items()}
        rows[precision] = measure(runs, args.rounds)
    if args.json:
        samples = {p: {k: m.samples for k, m in row.items()} for p, row in rows.items()}
        print(json.dumps(samples, indent=1))
        return
    print(
        "| precision | options | latency (middle half) | ratio (middle half) |\n|---|---|---|---|"
    )
    for precision, row in rows.items():
        base = np.array(row["as set"].samples)
        for name, found in row.items():
            low, middle, high = np.percentile(np.array(found.samples) / base, [25, 50, 75])
            ratio = f"{middle:.3f} ({low:.3f}–{high:.3f})"
            print(f"| {precision} | {name} | {found} | {ratio} |")


def _session(data: bytes, change: Callable[[Any], None], lr: Any) -> Callable[[], object]:
    options = session_options()
    change(options)
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"lr": lr})
