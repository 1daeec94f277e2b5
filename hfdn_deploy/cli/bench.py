"""The command `hfdn bench`."""

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from hfdn_deploy.atomic import replaced
from hfdn_deploy.backends import NAMES
from hfdn_deploy.bench import SCENARIOS
from hfdn_deploy.bundle import PRECISIONS
from hfdn_deploy.cli.options import add_run_arguments, positive, run_options, size
from hfdn_deploy.cli.printing import printable
from hfdn_deploy.errors import GateError, InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hfdn_deploy.bench import Candidate


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "models", nargs="+", metavar="MODEL",
        help="bundle (x2, x3 or x4: one from the package), ONNX file of a bundle, or engine; or "
        "the JSON file of an earlier run, to print its tables",
    )  # fmt: skip
    parser.add_argument("--backends", nargs="+", choices=NAMES, default=["onnxruntime", "openvino"])
    parser.add_argument(
        "--precisions", nargs="+", choices=PRECISIONS, default=["fp32", "bf16", "int8"]
    )
    parser.add_argument(
        "--size", nargs="+", type=size, default=[(320, 180)], metavar="WIDTHxHEIGHT",
        help="sizes of the input (default: 320x180)",
    )  # fmt: skip
    parser.add_argument("--image", type=Path, help="input (default: a photograph of ours)")
    parser.add_argument("--rounds", type=positive, default=10, help="minimum of timed runs")
    parser.add_argument("--seconds", type=_seconds, default=10, help="minimum time for all runs")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write every sample to a file")
    parser.add_argument(
        "--compare", type=Path, metavar="OLD", help="JSON file of an earlier run; exit 3 if slower"
    )
    parser.add_argument(
        "--scenario", choices=tuple(SCENARIOS), help="use the rules of MLPerf LoadGen instead"
    )
    parser.add_argument("--log", type=Path, default=Path("loadgen"), help="folder of LoadGen's log")
    add_run_arguments(parser)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds such as 10")
    return seconds


def run(args: argparse.Namespace) -> None:
    """Measure, or read an earlier run; print the tables and the comparison."""
    from hfdn_deploy import bench

    old = bench.read_result(args.compare) if args.compare else None
    if args.models[0].endswith(".json"):
        if len(args.models) > 1:
            raise InputError("a JSON file of an earlier run must be the only MODEL; name it alone.")
        result = bench.read_result(Path(args.models[0]))
    else:
        photograph = bench.load_original(args.image)  # fails early if the file is not usable
        cases = bench.skip_unavailable(
            bench.plan(args.models, args.backends, args.precisions, run_options(args)), args.size
        )
        if args.scenario:
            _scenario(args, cases, photograph)
            return
        result = bench.run(cases, args.size, photograph, args.rounds, args.seconds)
    if args.json:
        with replaced(args.json) as temporary:
            temporary.write_text(json.dumps(result.to_json(), indent=1) + "\n", encoding="utf-8")
    print(printable(bench.format_table(result), keep="\n"))
    if args.json:
        print(printable(f"\nevery sample: {args.json}", keep="\n"))
    if old:
        slower = bench.regressions(result, old)
        if slower:
            raise GateError(f"slower than in {args.compare}: {'; '.join(slower)}.")
        print(f"\nno row is slower than in {args.compare}, within the noise")


def _scenario(
    args: argparse.Namespace, cases: "list[Candidate]", photograph: "NDArray[np.uint8]"
) -> None:
    from hfdn_deploy.bench import run_scenario

    for case in cases:
        for one in args.size:
            name = f"{case.backend}-{case.precision}-{one[0]}x{one[1]}"
            with case.load() as up:
                folder = args.log / name
                summary = run_scenario(up, photograph, one, args.scenario, args.seconds, folder)
            print(f"## {name}, {args.scenario}\n\n{summary}\n\nlog: {printable(folder)}")
