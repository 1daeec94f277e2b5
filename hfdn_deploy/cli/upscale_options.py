"""The options of `hfdn upscale`, and their translation for the rest of the package."""

import argparse
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfdn_deploy.cli.options import add_sized_model_arguments, positive
from hfdn_deploy.cli.printing import printable
from hfdn_deploy.video import CODECS, VideoOptions

if TYPE_CHECKING:
    from hfdn_deploy.files import Done, Job, Naming, Writing
    from hfdn_deploy.upscaler import Upscaler

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "inputs", nargs="+", metavar="IN", help="file, folder, quoted glob, or - for stdin"
    )
    parser.add_argument(
        "-o", "--output", required=True, metavar="OUT",
        help="file (for one input), folder (keeps the names of inputs), or - for stdout; missing "
        "folders are created",
    )  # fmt: skip
    parser.add_argument(
        "-r", "--recursive", action="store_true",
        help="include the folders below a folder, and keep the tree below OUT",
    )  # fmt: skip
    parser.add_argument(
        "--format", type=_format, metavar="FORMAT",
        help="format of images in a folder or on stdout, such as png or jpg (default: the input's)",
    )  # fmt: skip
    parser.add_argument(
        "--suffix", type=_suffix, default="", metavar="TEXT",
        help="text such as _x4 between name and extension of outputs in a folder",
    )  # fmt: skip
    add_sized_model_arguments(parser)
    parser.add_argument(
        "--quality", type=_quality, metavar="N",
        help="quality of images, 1 to 100 (default: JPEG 95, AVIF 90, WebP lossless)",
    )  # fmt: skip
    parser.add_argument(
        "--codec", choices=CODECS,
        help="codec of videos (default: h264, in .webm vp9)",
    )  # fmt: skip
    parser.add_argument(
        "--crf", type=int, metavar="N",
        help="constant rate factor of videos, the lower the better: " + ", ".join(
            f"{name} {codec.crfs[0]} to {codec.crfs[-1]} (default {codec.crf})"
            for name, codec in CODECS.items()
        ),
    )  # fmt: skip
    parser.add_argument(
        "--deinterlace", action=argparse.BooleanOptionalAction, default=True,
        help="deinterlace interlaced video; else refuse it (default: deinterlace)",
    )  # fmt: skip
    parser.add_argument(
        "--keep-metadata", action=argparse.BooleanOptionalAction, default=True,
        help="keep profile, EXIF, XMP, PNG text; a video's titles, chapters (default: keep)",
    )  # fmt: skip
    parser.add_argument(
        "--force", action="store_true",
        help="overwrite existing outputs; with --resume only those that are not done",
    )  # fmt: skip
    parser.add_argument(
        "--resume", action="store_true",
        help="skip outputs that are not older than their input, from the same model and options",
    )  # fmt: skip
    parser.add_argument(
        "--batch", type=positive, default=1, metavar="N",
        help="most images of one size in a batch (default: 1; more is slower on a CPU)",
    )  # fmt: skip
    places = ("local", "ray")
    parser.add_argument(
        "--cluster", choices=places,
        help="ray: on a Ray cluster, here or at $RAY_ADDRESS; IN and OUT may be s3:// URIs "
        "(default: local)",
    )  # fmt: skip
    # The name that --cluster had in 0.1.
    parser.add_argument("--engine", choices=places, help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, help="Ray workers (default: as many as fit)")
    parser.add_argument("--cpus-per-worker", type=float, help="default: 1")
    parser.add_argument("--gpus-per-worker", type=float, help="0.25 for 4 on a GPU (default: 0)")
    parser.add_argument("--json", action="store_true", help="machine-readable output")


def _quality(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 100")
    return int(text)


def _format(text: str) -> str:
    """Parse the suffix of an image format that can be written."""
    from hfdn_deploy.errors import InputError
    from hfdn_deploy.images import FORMATS, check_format

    suffix = f".{text.lower().removeprefix('.')}"
    try:
        check_format(Path(f"x{suffix}"))
    except InputError:
        known = ", ".join(name[1:] for name, kind in FORMATS.items() if not kind.why_missing())
        raise argparse.ArgumentTypeError(f"{text!r} is not one of {known}") from None
    return suffix


def _suffix(text: str) -> str:
    if {"/", os.sep, "\0"} & {*text}:
        raise argparse.ArgumentTypeError(
            f"{text!r} has a path separator; name the folder with --output"
        )
    return text


def naming_options(args: argparse.Namespace) -> "Naming":
    """Return the options for the names of outputs as a record."""
    from hfdn_deploy.files import Naming

    return Naming(recursive=args.recursive, format=args.format, suffix=args.suffix)


def writing_options(args: argparse.Namespace) -> "Writing":
    """Return the options for writing outputs as a record."""
    from hfdn_deploy.files import Writing

    video = VideoOptions(codec=args.codec, crf=args.crf, deinterlace=args.deinterlace)
    return Writing(keep_metadata=args.keep_metadata, quality=args.quality, video=video)


def is_quiet(args: argparse.Namespace) -> bool:
    """Return whether only errors are shown."""
    return bool(args.log_level == "error")


def model_facts(up: "Upscaler") -> dict[str, Any]:
    """Return facts about the model for the report."""
    return {
        "backend": up.backend.name,
        "choice": up.choice,
        "precision": up.backend.precision,
        "scale": up.target.scale,
    }


def image_facts(result: "Done") -> dict[str, Any]:
    """Return facts about a written image for the report."""
    return {
        "input": str(result.job.source),
        "output": str(result.job.target),
        "width": result.width,
        "height": result.height,
        "frames": result.frames,
        "tile": result.tile,
        "seconds": round(result.seconds, 4),
    }


def say_what_is_kept(args: argparse.Namespace, kept: int, number: int) -> None:
    """Log how many outputs are done already."""
    if kept:
        logger.info("%d of %d are done already", kept, number)
    if args.force and args.resume:
        logger.info("--force --resume: keep outputs that are done, overwrite the others")


def warn_of_ignored(args: argparse.Namespace, jobs: "Sequence[Job]") -> None:
    """Warn about options that have no effect on some or all outputs."""
    from hfdn_deploy.images import FORMATS
    from hfdn_deploy.video import is_video

    videos = [job for job in jobs if is_video(job.target)]
    given = [f"--{name}" for name in ("codec", "crf") if getattr(args, name) is not None]
    if given and jobs and not videos:
        logger.warning("%s: only for videos, and ignored for images", " and ".join(given))
    if args.quality is None:
        return
    if videos:
        logger.warning("--quality is ignored for videos; use --crf")
    suffixes = {job.target.suffix.lower() for job in jobs}
    if exact := sorted(s for s in suffixes if s in FORMATS and not FORMATS[s].lossy):
        lossy = ", ".join(dict.fromkeys(kind.name for kind in FORMATS.values() if kind.lossy))
        logger.warning("--quality is only for %s, and ignored for %s", lossy, ", ".join(exact))


def tell(args: argparse.Namespace, written: Sequence[str]) -> None:
    """Print the outputs that were written, except with --json or --quiet."""
    if written and not args.json and not is_quiet(args):
        print(
            printable(written[0] if len(written) == 1 else f"{args.output}: {len(written)} files")
        )
