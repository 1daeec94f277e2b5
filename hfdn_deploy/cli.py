"""`hfdn`: upscale pictures, say what a file is, say what works here."""

import argparse
import glob
import json
import logging
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
from tqdm import tqdm

from hfdn_deploy import __version__
from hfdn_deploy.command import run_command
from hfdn_deploy.describe import describe
from hfdn_deploy.doctor import diagnose
from hfdn_deploy.engines import commands as engines
from hfdn_deploy.errors import InputError
from hfdn_deploy.images import IMAGE_SUFFIXES, check_format, read_image, write_image
from hfdn_deploy.manifest import PRECISIONS
from hfdn_deploy.upscaler import Upscaler


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    args = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    # What OpenCV logs about a bad file, the error says in one sentence.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return run_command(lambda: args.command(args))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hfdn", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    upscale = commands.add_parser("upscale", help="upscale images")
    upscale.add_argument("inputs", nargs="+", metavar="IN", help="file, folder or quoted glob")
    upscale.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT",
        help="image file (for one input file) or folder, where names are kept",
    )  # fmt: skip
    model = upscale.add_mutually_exclusive_group()
    model.add_argument("--scale", type=int, help="of a pretrained bundle (default: 4)")
    model.add_argument("--model", type=Path, help="bundle, engine or checkpoint")
    upscale.add_argument("--precision", choices=PRECISIONS, help="default: the model's, or fp32")
    upscale.add_argument("--backend", default="auto")
    upscale.add_argument("--ensemble", action="store_true", help="HFDN+: better, 8 times slower")
    upscale.add_argument(
        "--allow-ungated", action="store_true", help="run a graph that failed its quality gate"
    )
    upscale.add_argument(
        "--trust", action="store_true", help="run an engine that you did not build yourself"
    )
    upscale.add_argument(
        "--tile", type=_tile, default="auto", metavar="N",
        help="pixels of a tile's side; auto (default): whole if memory allows; none: whole",
    )  # fmt: skip
    upscale.add_argument(
        "--max-memory", type=_size, metavar="SIZE",
        help="that a picture may take, such as 1.5GiB (default: half of what is free)",
    )  # fmt: skip
    upscale.set_defaults(command=_upscale)

    info = commands.add_parser("info", help="say what a file is")
    info.add_argument("file", type=Path)
    info.set_defaults(command=_info)

    engines.add_commands(commands)

    doctor = commands.add_parser("doctor", help="say what is installed and what works")
    doctor.set_defaults(command=_doctor)

    for command in (upscale, info, doctor):
        command.add_argument("--json", action="store_true", help="machine-readable output")
    return parser


def _upscale(args: argparse.Namespace) -> None:
    jobs = plan_jobs(args.inputs, args.output)
    records = []
    model = args.model or (4 if args.scale is None else args.scale)
    with Upscaler.load(
        model, args.backend, args.precision, args.ensemble, args.allow_ungated, args.trust,
        args.tile, args.max_memory,
    ) as up:  # fmt: skip
        for source, target in tqdm(jobs, unit="image", disable=None):
            start = time.perf_counter()
            image = read_image(source)
            try:
                side = up.tile_for(image.shape)
                with _PixelBar() as bar:
                    image = up(image, bar.show)
            except InputError as error:
                raise InputError(f"{source}: {error}") from None
            write_image(target, image)
            records.append(
                {
                    "input": str(source),
                    "output": str(target),
                    "width": image.shape[1],
                    "height": image.shape[0],
                    "tile": side,
                    "seconds": round(time.perf_counter() - start, 4),
                }
            )
    if args.json:
        facts = {
            "backend": up.backend.name,
            "choice": up.choice,
            "precision": up.backend.precision,
            "scale": up.scale,
        }
        print(json.dumps({**facts, "images": records}, indent=1))


class _PixelBar(tqdm):  # type: ignore[misc]
    """A bar of an image's pixels, which appears with the first tile."""

    def __init__(self) -> None:
        super().__init__(unit="px", unit_scale=True, disable=None, leave=False, delay=0.1)

    def show(self, done: int, total: int) -> None:
        """Move to `done`."""
        self.total = total
        self.update(done - self.n)


def _tile(text: str) -> int | str | None:
    if text in ("auto", "none"):
        return text if text == "auto" else None
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no side in pixels, auto or none")
    return int(text)


def _size(text: str) -> int:
    """Bytes of a size such as 800MiB, 1.5GiB or 2GB."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT])(i?)B", text, re.ASCII)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 800MiB or 1.5GiB")
    number, prefix, binary = found.groups()
    return int(float(number) * (1024 if binary else 1000) ** ("KMGT".index(prefix) + 1))


def plan_jobs(inputs: Sequence[str], output: Path) -> list[tuple[Path, Path]]:
    """Pairs of input and output file.

    Args:
        inputs: files, folders (the images directly in them) and globs.
        output: an existing folder; else a file if it has a suffix, or a folder to make.

    Raises:
        InputError: nothing to do, an output of no known format, several inputs for one output,
            or an input as its own output.
    """
    sources: list[Path] = []
    for name in inputs:
        path = Path(name)
        if path.is_dir():
            sources += [p for p in sorted(path.iterdir()) if _is_image(p)]
        elif not path.exists() and glob.has_magic(name):
            sources += sorted(map(Path, glob.glob(name, recursive=True)))  # noqa: PTH207
        else:
            sources.append(path)
    if not sources:
        raise InputError(f"no image in {', '.join(inputs)}; name files, folders or globs.")
    into_file = bool(output.suffix) and not output.is_dir()
    if into_file and len(sources) > 1:
        raise InputError(f"{output} is one file for {len(sources)} images; name a folder.")
    jobs = [(source, output if into_file else output / source.name) for source in sources]
    taken: dict[Path, Path] = {}
    for source, target in jobs:
        check_format(target)
        if target in taken:
            raise InputError(f"{taken[target]} and {source} would both become {target}.")
        if target.exists() and target.samefile(source):
            raise InputError(f"{source} would overwrite itself; name another output.")
        taken[target] = source
    return jobs


def _is_image(path: Path) -> bool:
    """Whether a folder's entry is an image to upscale, and not hidden."""
    suffix = path.suffix.lower()
    return suffix in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _info(args: argparse.Namespace) -> None:
    _print(describe(args.file), args.json)


def _doctor(args: argparse.Namespace) -> None:
    _print(diagnose(), args.json)


def _print(facts: dict[str, Any], as_json: bool, indent: str = "") -> None:
    """Print facts as JSON, or as lines a person reads, without the long lists."""
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    for name, value in facts.items():
        label = f"{indent}{name.replace('_', ' ')}:"
        if isinstance(value, dict):
            print(label)
            _print(value, as_json, indent + "  ")
        elif isinstance(value, list | tuple) and any(isinstance(v, dict) for v in value):
            print(f"{label} {len(value)} (see --json)")
        elif isinstance(value, list | tuple):
            print(label, ", ".join(map(str, value)) or "none")
        else:
            print(label, "-" if value is None else value)


if __name__ == "__main__":
    sys.exit(main())
