"""Have foreign packages run image graphs, and print a table: `python -m tests.consumers`.

The exit code is 1 if one of those that must agree does not.
"""

import argparse
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
from tqdm import tqdm

from export.cli import main as export
from hfdn_deploy import Upscaler
from hfdn_deploy.bench import photographs
from tests.consumers.check import Outcome, Pixels, check
from tests.consumers.consumers import CONSUMERS, install

SCALE = 2
# Levels: luma that differs in its last bit is quantised otherwise here and there.
MOST = {"fp32": 1, "int8": 4}
HEAD = ("consumer", "version", "graph", "loads", "agrees", "dynamic")


def main() -> int:
    """Install, export, run and compare; prints Markdown."""
    parser = argparse.ArgumentParser(prog="python -m tests.consumers", description=__doc__)
    parser.add_argument("folder", type=Path, help="for environments and graphs")
    parser.add_argument("--only", default="", metavar="TEXT", help="consumers whose name has it")
    args = parser.parse_args()
    photograph = photographs()["chelsea"]
    images = [photograph, np.ascontiguousarray(photograph[20:117, 130:261])]
    expected = {precision: upscaled(images, precision) for precision in MOST}
    rows, reasons, failed = [], [], False
    for consumer in tqdm([each for each in CONSUMERS if args.only in each.name]):
        try:
            command, version = install(consumer, args.folder)
        except (subprocess.CalledProcessError, FileNotFoundError) as error:
            said = getattr(error, "stderr", "") or str(error)
            rows.append([consumer.name, "cannot be installed", *[""] * 4])
            reasons.append(f"{consumer.name}: {said.strip().splitlines()[-1]}")
            failed |= consumer.must_agree
            continue
        agrees = False
        for graph in consumer.graphs:
            precision = "int8" if "int8" in graph else "fp32"
            options = graph.format(width=photograph.shape[1], height=photograph.shape[0])
            outcome = run(command, options, args.folder / "graph", images, expected[precision])
            agrees |= outcome.agrees(MOST[precision])
            name = f"`{options}`" if options else "as it is"
            rows.append([consumer.name, version, name, *outcome.cells(MOST[precision])])
            if outcome.reason:
                reasons.append(f"{consumer.name}, {name}: {outcome.reason}")
        failed |= consumer.must_agree and not agrees
    sys.stdout.write(table(rows) + "".join(f"\n- {reason}" for reason in reasons) + "\n")
    return failed


def upscaled(images: list[Pixels], precision: str) -> list[Pixels]:
    """What `Upscaler` makes of images."""
    with Upscaler.load(SCALE, "onnxruntime", precision) as up:
        return [np.asarray(up(image), np.uint8) for image in images]


def run(
    command: list[str], options: str, folder: Path, images: list[Pixels], expected: list[Pixels]
) -> Outcome:
    """Export a graph with these options, and have a consumer run it."""
    folder.mkdir(exist_ok=True)
    graph = folder / "image.onnx"
    with redirect_stdout(sys.stderr):
        code = export(["image", f"x{SCALE}", "-o", str(graph), *options.split()])
    if code:
        raise SystemExit(code)
    return check(command, graph, images, expected)


def table(rows: list[list[str]]) -> str:
    """Rows as Markdown."""
    lines = [HEAD, ["---"] * len(HEAD), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
