"""`hfdn`: upscale pictures and videos, serve, say what a file is, say what works here."""

import argparse
import json
import logging
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
from tqdm import tqdm

from hfdn_deploy import __version__
from hfdn_deploy.bundle import PRECISIONS
from hfdn_deploy.cli import cluster as integrations
from hfdn_deploy.cli import engines
from hfdn_deploy.cli import serve as service
from hfdn_deploy.cli.bench import add_command as add_bench
from hfdn_deploy.cli.doctor import diagnose
from hfdn_deploy.cli.info import describe
from hfdn_deploy.cli.process import positive, report_failures, run_command
from hfdn_deploy.files import Done, pending_jobs, plan_jobs, run_jobs
from hfdn_deploy.upscaler import Upscaler
from hfdn_deploy.video import is_video

logger = logging.getLogger(__name__)


def main(argv: Sequence[str]) -> int:
    """Run the command line; returns the exit code."""
    args = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    # What OpenCV and Pillow say about a bad file, the error says in one sentence.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    warnings.filterwarnings("ignore", module="PIL")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    return run_command(lambda: args.command(args))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hfdn", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    upscale = commands.add_parser("upscale", help="upscale images and videos")
    upscale.add_argument("inputs", nargs="+", metavar="IN", help="file, folder or quoted glob")
    upscale.add_argument(
        "-o", "--output", required=True, metavar="OUT",
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
        "--quality", type=_quality, metavar="N",
        help="of pictures, 1 to 100 (default: JPEG 95, AVIF 90, WebP lossless)",
    )  # fmt: skip
    upscale.add_argument(
        "--keep-metadata", action=argparse.BooleanOptionalAction, default=True,
        help="profile, EXIF, XMP, PNG text; a video's titles, chapters (default: keep)",
    )  # fmt: skip
    upscale.add_argument("--force", action="store_true", help="overwrite outputs that exist")
    upscale.add_argument(
        "--resume", action="store_true",
        help="skip images whose output exists and is no older",
    )  # fmt: skip
    upscale.add_argument(
        "--batch", type=positive, default=1, metavar="N",
        help="images of one size to run at once (default: 1; more is no faster on a CPU)",
    )  # fmt: skip
    upscale.add_argument(
        "--tile", type=_tile, default="auto", metavar="N",
        help="pixels of a tile's side; auto (default): whole if memory allows; none: whole",
    )  # fmt: skip
    upscale.add_argument(
        "--max-memory", type=_size, metavar="SIZE",
        help="that a picture may take, such as 1.5GiB (default: half of what is free)",
    )  # fmt: skip
    integrations.add_arguments(upscale)
    upscale.set_defaults(command=_upscale)

    info = commands.add_parser("info", help="say what a file is")
    info.add_argument("file", type=Path)
    info.set_defaults(command=_info)

    engines.add_commands(commands)
    add_bench(commands)
    service.add_commands(commands)

    doctor = commands.add_parser("doctor", help="say what is installed and what works")
    doctor.set_defaults(command=_doctor)

    for command in (upscale, info, doctor):
        command.add_argument("--json", action="store_true", help="machine-readable output")
    return parser


def _quality(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 100")
    return int(text)


def _upscale(args: argparse.Namespace) -> None:
    integrations.check_engine(args)
    if args.engine == "ray":
        integrations.upscale_in_cluster(args)
        return
    planned = plan_jobs(args.inputs, Path(args.output))
    jobs = pending_jobs(planned, args.force, args.resume)
    if len(jobs) < len(planned):
        logger.info("%d of %d are done already", len(planned) - len(jobs), len(planned))
    if args.quality is not None and any(is_video(job.source) for job in jobs):
        logger.warning("--quality is for pictures; videos are H.264 at CRF 17 or VP9 at CRF 20")
    model = args.model or (4 if args.scale is None else args.scale)
    done, failed = [], []
    with Upscaler.load(
        model, args.backend, args.precision, args.ensemble, args.allow_ungated, args.trust,
        args.tile, args.max_memory,
    ) as up, _PixelBar() as bar:  # fmt: skip
        results = run_jobs(up, jobs, args.keep_metadata, args.quality, args.batch, bar.show)
        for result in tqdm(results, total=len(jobs), unit="file", disable=None):
            if isinstance(result, Done):
                done.append(result)
            elif len(planned) == 1:
                raise result.error
            else:
                failed.append(result)
    if args.json:
        facts = {
            "backend": up.backend.name,
            "choice": up.choice,
            "precision": up.backend.precision,
            "scale": up.scale,
            "skipped": len(planned) - len(jobs),
        }
        images = [
            {
                "input": str(result.job.source),
                "output": str(result.job.target),
                "width": result.width,
                "height": result.height,
                "frames": result.frames,
                "tile": result.tile,
                "seconds": round(result.seconds, 4),
            }
            for result in done
        ]
        failures = [{"input": str(f.job.source), "error": str(f.error)} for f in failed]
        print(json.dumps({**facts, "images": images, "failures": failures}, indent=1))
    report_failures([failure.error for failure in failed], len(jobs))


class _PixelBar(tqdm):  # type: ignore[misc]
    """A bar of an image's pixels, which appears with the first tile."""

    total: int | None

    def __init__(self) -> None:
        super().__init__(unit="px", unit_scale=True, disable=None, leave=False, delay=0.1)

    def show(self, done: int, total: int) -> None:
        """Move to `done`; a smaller one than before is the next image's."""
        if done < self.n or total != self.total:
            self.reset()
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
    size = int(float(number) * (1024 if binary else 1000) ** ("KMGT".index(prefix) + 1))
    if not size:
        raise argparse.ArgumentTypeError(f"{text!r} is no memory at all")
    return size


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
