"""`hfdn upscale`, here or in a cluster."""

import argparse
import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from hfdn_deploy.cli.options import add_model_arguments, model_options, positive
from hfdn_deploy.cli.printing import printable
from hfdn_deploy.cli.process import report_failures
from hfdn_deploy.errors import InputError

if TYPE_CHECKING:
    from hfdn_deploy.files import Job

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("inputs", nargs="+", metavar="IN", help="file, folder or quoted glob")
    parser.add_argument(
        "-o", "--output", required=True, metavar="OUT",
        help="image file (for one input file) or folder, where names are kept",
    )  # fmt: skip
    add_model_arguments(parser)
    parser.add_argument(
        "--quality", type=_quality, metavar="N",
        help="of images, 1 to 100 (default: JPEG 95, AVIF 90, WebP lossless)",
    )  # fmt: skip
    parser.add_argument(
        "--keep-metadata", action=argparse.BooleanOptionalAction, default=True,
        help="profile, EXIF, XMP, PNG text; a video's titles, chapters (default: keep)",
    )  # fmt: skip
    parser.add_argument(
        "--force", action="store_true",
        help="overwrite outputs that exist; with --resume only those that are not done",
    )  # fmt: skip
    parser.add_argument(
        "--resume", action="store_true",
        help="skip what is done: the output is no older than its input and has the right size",
    )  # fmt: skip
    parser.add_argument(
        "--batch", type=positive, default=1, metavar="N",
        help="images of one size to run at once (default: 1; more is no faster on a CPU)",
    )  # fmt: skip
    places = ("local", "ray")
    parser.add_argument(
        "--cluster", choices=places,
        help="ray: of this machine or at $RAY_ADDRESS; IN and OUT may be s3:// URIs "
        "(default: local)",
    )  # fmt: skip
    # The name that --cluster had in 0.1.
    parser.add_argument("--engine", choices=places, help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, help="of ray (default: as many as fit)")
    parser.add_argument("--cpus-per-worker", type=float, help="cores (default: 1)")
    parser.add_argument("--gpus-per-worker", type=float, help="0.25 for 4 a GPU (default: 0)")
    parser.add_argument("--json", action="store_true", help="machine-readable output")


def _quality(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 100")
    return int(text)


def run(args: argparse.Namespace) -> None:
    """Upscale the files and report.

    Raises:
        InputError: an option is for the other place, or the inputs and outputs are refused.
        PartialError: some files failed.
        HFDNError: the model cannot be opened or the backend failed.
    """
    if args.engine:
        logger.warning("--engine %s is now --cluster %s.", args.engine, args.engine)
        if args.cluster not in (None, args.engine):
            raise InputError("--engine is the old name of --cluster; give --cluster alone.")
        args.cluster = args.engine
    if args.cluster == "ray":
        if args.batch != 1:
            raise InputError("--batch is for --cluster local; leave it out.")
        _run_in_cluster(args)
        return
    for name in ("workers", "cpus_per_worker", "gpus_per_worker"):
        if getattr(args, name) is not None:
            raise InputError(f"--{name.replace('_', '-')} is for --cluster ray; leave it out.")
    for name in (*args.inputs, args.output):
        if "://" in name:
            raise InputError(f"{name} is no path; --cluster ray reads and writes URIs.")
    _run_here(args)


def _run_here(args: argparse.Namespace) -> None:
    from tqdm import tqdm

    from hfdn_deploy.cli.progress import PixelBar
    from hfdn_deploy.files import Done, pending_jobs, plan_jobs, run_jobs
    from hfdn_deploy.upscaler import Upscaler

    planned, unusable = plan_jobs(args.inputs, args.output)
    jobs = pending_jobs(planned, args.force, args.resume, scale=_scale(args))
    _say_what_is_kept(args, len(planned) - len(jobs), len(planned))
    if args.quality is not None:
        _warn_of_quality(jobs)
    done = []
    failed = [(one.name, one.error) for one in unusable]
    facts: dict[str, Any] = dict.fromkeys(("backend", "choice", "precision", "scale"))
    facts["skipped"] = len(planned) - len(jobs)
    if jobs:
        with Upscaler.open(model_options(args)) as up, PixelBar() as bar:
            facts |= {
                "backend": up.backend.name,
                "choice": up.choice,
                "precision": up.backend.precision,
                "scale": up.scale,
            }
            results = run_jobs(up, jobs, args.keep_metadata, args.quality, args.batch, bar.show)
            for result in tqdm(results, total=len(jobs), unit="file", disable=None):
                if isinstance(result, Done):
                    done.append(result)
                else:
                    failed.append((str(result.job.source), result.error))
    args.report |= {
        **facts,
        "images": [
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
        ],
        "failures": [{"input": name, "error": str(error)} for name, error in failed],
    }
    if failed and len(planned) + len(unusable) == 1:
        raise failed[0][1]
    _tell(args, [str(result.job.target) for result in done])
    report_failures([error for _, error in failed], len(jobs) + len(unusable))


def _scale(args: argparse.Namespace) -> int | None:
    """The model's scale without opening it, for --resume; None if that does not tell."""
    if not args.resume:
        return None
    if args.model is None:
        return 4 if args.scale is None else int(args.scale)
    from hfdn_deploy.cli.info import describe

    facts = describe(args.model)
    scale: int | None = {**facts, **(facts.get("configuration") or {})}.get("scale")
    return scale


def _say_what_is_kept(args: argparse.Namespace, kept: int, number: int) -> None:
    if kept:
        logger.info("%d of %d are done already", kept, number)
    if args.force and args.resume:
        logger.info("--force --resume: what is done is kept, outputs that are not are overwritten")


def _warn_of_quality(jobs: "Sequence[Job]") -> None:
    from hfdn_deploy.images import FORMATS
    from hfdn_deploy.video import is_video

    if any(is_video(job.source) for job in jobs):
        logger.warning("--quality is for pictures; videos are H.264 at CRF 17 or VP9 at CRF 20")
    suffixes = {job.target.suffix.lower() for job in jobs}
    if exact := sorted(s for s in suffixes if s in FORMATS and not FORMATS[s].lossy):
        logger.warning("--quality is for JPEG, WebP and AVIF, and ignored for %s", ", ".join(exact))


def _tell(args: argparse.Namespace, written: Sequence[str]) -> None:
    """Name what was written, unless a program reads the output."""
    if written and not args.json:
        print(
            printable(written[0] if len(written) == 1 else f"{args.output}: {len(written)} files")
        )


def _run_in_cluster(args: argparse.Namespace) -> None:
    from tqdm import tqdm

    try:
        from hfdn_deploy.cluster import ImageResult, plan, run
    except ModuleNotFoundError as error:
        raise InputError(
            f"--cluster ray needs {error.name}: pip install 'hfdn-deploy[ray]'"
        ) from None
    planned = plan(args.inputs, args.output, args.force, args.resume, _scale(args))
    if args.quality is not None:
        _warn_of_quality(planned.jobs)
    unusable, todo = planned.unusable, len(planned.jobs)
    number = todo + len(planned.done)
    _say_what_is_kept(args, len(planned.done), number)
    options = model_options(args)
    if args.model:
        options = replace(options, model=args.model.absolute())  # workers run in other folders
    asked = {"cpus": args.cpus_per_worker, "gpus": args.gpus_per_worker}
    asked = {name: value for name, value in asked.items() if value is not None}
    writing = {"keep_metadata": args.keep_metadata, "quality": args.quality}
    done: list[ImageResult] = []
    failed = [ImageResult(one.name, "", str(one.error)) for one in unusable]
    backends: set[str] = set()
    with closing(run(planned, options, workers=args.workers, **writing, **asked)) as results:
        for result in tqdm(results, total=todo, unit="file", disable=None):
            (failed if result.error else done).append(result)
            if result.backend and (name := f"{result.backend}, {result.precision}") not in backends:
                backends.add(name)
                logger.info("backend: %s", name)
    images, failures = [[asdict(one) for one in many] for many in (done, failed)]
    facts = {"cluster": "ray", "skipped": len(planned.done)}
    args.report |= {**facts, "images": images, "failures": failures}
    if failed and number + len(unusable) == 1:
        raise InputError(str(failed[0].error))
    _tell(args, [f"{args.output}/{result.output}" for result in done])
    report_failures([failure.error for failure in failed], todo + len(unusable))
