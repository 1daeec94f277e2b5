"""`hfdn bench`: its options, its table, and the comparison with an earlier run."""

import argparse
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hfdn_deploy import backends
from hfdn_deploy.atomic import replaced
from hfdn_deploy.bench import (
    ON_GPU,
    SCENARIOS,
    SCHEMA,
    BenchResult,
    BenchRow,
    Candidate,
    Measurement,
    doubt,
    load_original,
    plan,
    run,
    run_scenario,
    skip_unavailable,
)
from hfdn_deploy.bundle import PRECISIONS, read_json
from hfdn_deploy.cli.process import positive
from hfdn_deploy.errors import GateError, InputError

# A slowdown smaller than this is no regression, however quiet both runs were.
LEAST_REGRESSION = 1.05


def add_command(commands: Any) -> None:
    """Add it to the subcommands of `hfdn`."""
    bench = commands.add_parser("bench", help="measure latency, quality and memory here")
    bench.add_argument(
        "models", nargs="+", metavar="MODEL",
        help="bundle (x2, x3, x4 for the package's), its ONNX file, or engine; or one JSON of an "
        "earlier run, to show it",
    )  # fmt: skip
    bench.add_argument(
        "--backends", nargs="+", choices=backends.NAMES, default=["onnxruntime", "openvino"]
    )
    bench.add_argument(
        "--precisions", nargs="+", choices=PRECISIONS, default=["fp32", "bf16", "int8"]
    )
    bench.add_argument(
        "--size", nargs="+", type=_size, default=[(320, 180)], metavar="WIDTHxHEIGHT",
        help="of the input (default: 320x180)",
    )  # fmt: skip
    bench.add_argument("--image", type=Path, help="a photograph (default: one that comes with it)")
    bench.add_argument("--rounds", type=positive, default=10, help="least timed runs of each")
    bench.add_argument("--seconds", type=_seconds, default=10, help="least time for all runs")
    bench.add_argument("--json", type=Path, metavar="OUT", help="write every sample to a file")
    bench.add_argument(
        "--compare", type=Path, metavar="OLD", help="JSON of an earlier run; exit 3 if slower"
    )
    bench.add_argument(
        "--scenario", choices=tuple(SCENARIOS), help="by the rules of MLPerf LoadGen instead"
    )
    bench.add_argument("--log", type=Path, default=Path("loadgen"), help="folder for LoadGen's log")
    bench.add_argument("--allow-ungated", action="store_true", help="also graphs that failed")
    bench.add_argument("--trust", action="store_true", help="engines that you did not build")
    bench.set_defaults(command=_bench)


def _size(text: str) -> tuple[int, int]:
    if not (match := re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 320x180")
    return int(match[1]), int(match[2])


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no time in seconds such as 10")
    return seconds


def _bench(args: argparse.Namespace) -> None:
    old = read_result(args.compare) if args.compare else None
    if args.models[0].endswith(".json"):
        if len(args.models) > 1:
            raise InputError("name one JSON of an earlier run alone.")
        result = read_result(Path(args.models[0]))
    else:
        cases = skip_unavailable(
            plan(args.models, args.backends, args.precisions, args.allow_ungated, args.trust)
        )
        if args.scenario:
            _scenario(args, cases)
            return
        photograph = load_original(args.image)
        result = run(cases, args.size, photograph, args.rounds, args.seconds)
    if args.json:
        with replaced(args.json) as temporary:
            temporary.write_text(json.dumps(result.to_json(), indent=1) + "\n", encoding="utf-8")
    print(table(result))
    if old:
        slower = regressions(result, old)
        if slower:
            raise GateError(f"slower than in {args.compare}: {'; '.join(slower)}.")
        print(f"\nno row is slower than in {args.compare} beyond the noise")


def _scenario(args: argparse.Namespace, cases: Sequence[Candidate]) -> None:
    photograph = load_original(args.image)
    for case in cases:
        for size in args.size:
            name = f"{case.backend}-{case.precision}-{size[0]}x{size[1]}"
            with case.load() as up:
                folder = args.log / name
                summary = run_scenario(up, photograph, size, args.scenario, args.seconds, folder)
            print(f"## {name}, {args.scenario}\n\n{summary}")


def read_result(path: Path) -> BenchResult:
    """The JSON that an earlier run wrote.

    Raises:
        InputError: it is missing, damaged or of another version.
    """
    renew = "name a JSON that this `hfdn bench` wrote, or measure anew"
    try:
        result = read_json(path, BenchResult, SCHEMA, InputError, renew)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None
    if not result.rows:
        raise InputError(f"{path} has no rows; {renew}.")
    return result


def table(result: BenchResult) -> str:
    """A Markdown table, and a sentence for each ratio that the spread leaves open."""
    facts = result.environment
    lines = [
        f"{facts['processor']}, {facts['cores']} cores, {len(result.rows[0].end_to_end)} rounds; "
        "median (middle half)",
        "",
        "| model | backend | precision | input | inference only | with transfers | end to end "
        "| ratio | PSNR cost | peak memory | share of limit |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    doubts = []
    for row in result.rows:
        first = next(r for r in result.rows if r.size == row.size)
        ratio = row.engine.ratio(first.engine)
        doubts.append(doubt(row.key, ratio) if row is not first else None)
        peak = "-" if row.peak_bytes is None else f"{row.peak_bytes / 2**20:.0f} MiB"
        cells = [
            row.model,
            row.backend,
            row.precision,
            f"{row.size[0]}×{row.size[1]}",
            _time(row.inference),
            _time(row.with_transfers),
            _time(row.end_to_end),
            f"{ratio:.2f}",
            f"{row.psnr_cost_db:+.3f} dB",
            peak,
            _share(result, row),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    limits = {p: result.limit(p) for p in dict.fromkeys(row.precision for row in result.rows)}
    lines += [
        "",
        *(
            f"- limit in {precision}: {limit[1] / 1e9:.0f} GMAC/s, a product of {limit[0]}"
            for precision, limit in limits.items()
            if limit
        ),
        *(f"- {sentence}" for sentence in doubts if sentence),
    ]
    return "\n".join(lines)


def _time(samples: tuple[float, ...] | None) -> str:
    return str(Measurement(samples)) if samples else "-"


def _share(result: BenchResult, row: BenchRow) -> str:
    limit = result.limit(row.precision)
    if row.backend in ON_GPU or limit is None:
        return "-"
    return f"{100 * row.macs / row.engine.percentile(50) / limit[1]:.0f} %"


def regressions(new: BenchResult, old: BenchResult) -> list[str]:
    """A phrase for each row whose middle half lies above that of the same row in `old`."""
    before = {row.key: row for row in old.rows}
    phrases = []
    for row in new.rows:
        if row.key not in before:
            continue
        was, now = before[row.key].engine, row.engine
        ratio = now.percentile(50) / was.percentile(50)
        if now.percentile(25) > was.percentile(75) and ratio > LEAST_REGRESSION:
            phrases.append(f"{row.key} took {ratio:.2f} times as long")
    return phrases
