"""A report of all measurements: JSON, Markdown tables, and a self-contained HTML page."""

import argparse
import base64
import io
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import jinja2
from markdown_it import MarkdownIt

from benchmarks import complexity, latency
from benchmarks.demo import judge
from benchmarks.latency import PRECISIONS
from benchmarks.peers import PEERS
from benchmarks.record import weights_of
from hfdn_deploy import bench
from hfdn_deploy.atomic import replaced
from hfdn_deploy.bench import environment_facts, load_original
from hfdn_deploy.bundle import pretrained, pretrained_scales
from hfdn_deploy.cli import positive
from hfdn_deploy.images import encode_image
from hfdn_deploy.upscaler import Upscaler

FOLDER = Path(__file__).parent
SIZE = (320, 180)
PEER_SIZE = (160, 90)
"""Width and height of the inputs; the heaviest peer takes minutes for larger inputs."""


@dataclass(frozen=True)
class Section:
    """A part of the report."""

    title: str
    command: str
    """Command that measures this part alone."""
    body: str
    """Markdown."""
    pictures: Mapping[str, bytes]
    """PNG files by caption."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `python -m benchmarks report`."""
    parser.add_argument("-o", "--output", type=Path, default=FOLDER / "results", metavar="FOLDER")
    parser.add_argument("--rounds", type=positive, default=5, help="rounds of each measurement")


def main(args: argparse.Namespace) -> None:
    """Measure everything and write `DATE-MACHINE` as .json, .md and .html."""
    facts = environment_facts()
    samples: dict[str, Any] = {"environment": facts}
    sections = []
    for make in (_precisions, _peers, _complexity, _photographs):
        section, samples[make.__name__.strip("_")] = make(args.rounds)
        sections.append(section)
        print(f"## {section.title}\n\n{section.body}\n", flush=True)
    machine = re.sub(r"\W+", "-", f"{facts['processor']} {facts['cores']} cores").lower()
    name = f"{date.today().isoformat()}-{machine}"
    texts = {
        ".json": json.dumps(samples, indent=1, ensure_ascii=False) + "\n",
        ".md": _markdown(name, sections),
        ".html": page(name, facts, sections),
    }
    for suffix, text in texts.items():
        with replaced(args.output / f"{name}{suffix}") as temporary:
            temporary.write_text(text, encoding="utf-8")
        print(args.output / f"{name}{suffix}")


def _precisions(rounds: int) -> tuple[Section, Any]:
    precisions = list(dict.fromkeys(p for names in PRECISIONS.values() for p in names))
    models = [f"x{scale}" for scale in pretrained_scales()]
    cases = bench.plan(models, list(PRECISIONS), precisions)
    cases = bench.skip_unavailable(cases)
    found = bench.run(cases, [SIZE], load_original(None), rounds, seconds=0)
    command = (
        f"hfdn bench {' '.join(models)} --backends {' '.join(PRECISIONS)} "
        f"--precisions {' '.join(precisions)} --rounds {rounds}"
    )
    title = "Precisions and backends"
    body = f"{bench.format_table(found)}\n\n{weights_of(map(pretrained, pretrained_scales()))}"
    return Section(title, command, body, {}), found.to_json()


def _peers(rounds: int) -> tuple[Section, Any]:
    found = latency.run(4, PEER_SIZE, PEERS, rounds)
    pictures = {}
    for figure in latency.plots(found).values():
        file = io.BytesIO()
        figure.savefig(file, dpi=150)
        pictures[figure.axes[0].get_title()] = file.getvalue()
    command = f"python -m benchmarks latency --peers --rounds {rounds}"
    return Section("Peers", command, latency.table(found), pictures), asdict(found)


def _complexity(rounds: int) -> tuple[Section, Any]:
    rows = complexity.bundle_rows()
    parts = [complexity.bundle_table(rows)]
    parts += [
        f"### ×{row.scale}, by block\n\n{complexity.block_table(row)}"
        for row in rows
        if row.graph == "fp32"
    ]
    values = [asdict(row) for row in rows]
    return Section("Complexity", "python -m benchmarks complexity", "\n\n".join(parts), {}), values


def _photographs(rounds: int) -> tuple[Section, Any]:
    tables, pictures, values = [], {}, {}
    for precision in ("fp32", "int8"):
        with Upscaler.load(4, precision=precision) as up:
            judged = judge(up)
        tables.append(f"### {precision}\n\n{judged.table}")
        pictures[f"×4, {precision}"] = encode_image(judged.picture, Path("a.png"))
        values[precision] = judged.decibels
    body = "\n\n".join([*tables, weights_of([pretrained(4)])])
    return Section("Photographs", "make demo", body, pictures), values


def _markdown(name: str, sections: list[Section]) -> str:
    parts = [f"# {name}\n\nWritten by `make bench`; every sample is in [{name}.json]({name}.json)."]
    parts += [f"## {s.title}\n\n`{s.command}`\n\n{s.body}" for s in sections]
    return "\n\n".join(parts) + "\n"


def page(name: str, facts: Mapping[str, Any], sections: list[Section]) -> str:
    """Return the report as HTML that loads no other resource."""
    loader = jinja2.FileSystemLoader(FOLDER)
    template = jinja2.Environment(loader=loader, autoescape=True).get_template("report.html.jinja")
    render = MarkdownIt("commonmark", {"html": False}).enable("table").render
    shown = [
        {
            "title": section.title,
            "command": section.command,
            "body": render(section.body),
            "pictures": {
                caption: base64.b64encode(data).decode()
                for caption, data in section.pictures.items()
            },
        }
        for section in sections
    ]
    return template.render(name=name, facts=facts, sections=shown)
