"""Run image graphs in other packages, and print a table: `python -m tests.consumers`.

The exit code is 1 if a package that must agree does not.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path

import numpy as np

from export.cli import main as export
from hfdn_deploy import Upscaler
from hfdn_deploy.bench import photographs
from tests.consumers.check import Outcome, Pixels, check
from tests.consumers.consumers import CONSUMERS, install

SCALE = 2
# Largest difference in levels: luma that differs in its last bit may be quantised differently.
MOST = {"fp32": 1, "int8": 4}
HEAD = ("consumer", "version", "graph", "loads", "agrees", "dynamic")


def main() -> int:
    """Install the packages, export and run the graphs, and print the comparison as Markdown."""
    parser = argparse.ArgumentParser(prog="python -m tests.consumers", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder for environments and graphs")
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="only consumers whose name contains this text"
    )
    args = parser.parse_args()
    photograph = photographs()["chelsea"]
    crops = photograph[60:204, 100:292], photograph[20:117, 130:261]  # tract is slow
    images = [np.ascontiguousarray(crop) for crop in crops]
    expected = {precision: upscaled(images, precision) for precision in MOST}
    reasons, failed = [], False
    print(row(HEAD), row(["---"] * len(HEAD)), sep="\n", flush=True)
    for consumer in CONSUMERS:
        if args.only not in consumer.name:
            continue
        try:
            command, version = install(consumer, args.folder)
        except (subprocess.CalledProcessError, FileNotFoundError) as error:
            said = getattr(error, "stderr", "") or str(error)
            print(row([consumer.name, "cannot be installed", "", *Outcome().cells(0)]), flush=True)
            reasons.append(f"{consumer.name}: {said.strip().splitlines()[-1]}")
            failed |= consumer.must_agree
            continue
        agrees = False
        for graph in consumer.graphs:
            precision = "int8" if "int8" in graph else "fp32"
            options = graph.format(width=images[0].shape[1], height=images[0].shape[0])
            outcome = check(command, exported(options, args.folder), images, expected[precision])
            agrees |= outcome.agrees(MOST[precision])
            name = f"`{options}`" if options else "as it is"
            cells = outcome.cells(MOST[precision])
            print(row([consumer.name, version, name, *cells]), flush=True)
            if outcome.reason:
                reasons.append(f"{consumer.name}, {name}: {outcome.reason}")
        failed |= consumer.must_agree and not agrees
    print("", *(f"- {reason}" for reason in reasons), sep="\n")
    return failed


def upscaled(images: list[Pixels], precision: str) -> list[Pixels]:
    """Return the images as `Upscaler` upscales them."""
    with Upscaler.load(SCALE, "onnxruntime", precision) as up:
        return [np.asarray(up(image), np.uint8) for image in images]


@cache
def exported(options: str, folder: Path) -> Path:
    """Export an image graph with these options to a folder of its own, and return the file."""
    graph = folder / "graphs" / (options.replace(" ", "") or "default") / "image.onnx"
    graph.parent.mkdir(parents=True, exist_ok=True)
    with redirect_stdout(sys.stderr):
        code = export(["image", f"x{SCALE}", "-o", str(graph), *options.split()])
    if code:
        raise SystemExit(code)
    return graph


def row(cells: Sequence[str]) -> str:
    """Return a row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
