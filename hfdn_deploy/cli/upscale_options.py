"""The options of `hfdn upscale`, and what they mean to the rest of the package."""

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
        help="file (for one input file), folder, where names are kept, or - for stdout",
    )  # fmt: skip
    parser.add_argument(
        "-r", "--recursive", action="store_true",
        help="take folders in folders, too, and keep the tree under OUT",
    )  # fmt: skip
    parser.add_argument(
        "--format", type=_format, metavar="FORMAT",
        help="of images in a folder or on stdout: png, jpg, webp, tif ... (default: the input's)",
    )  # fmt: skip
    parser.add_argument(
        "--suffix", type=_suffix, default="", metavar="TEXT",
        help="such as _x4, goes between name and extension of what is written to a folder",
    )  # fmt: skip
    add_sized_model_arguments(parser)
    parser.add_argument(
        "--quality", type=_quality, metavar="N",
        help="of images, 1 to 100 (default: JPEG 95, AVIF 90, WebP lossless)",
    )  # fmt: skip
    parser.add_argument(
        "--codec", choices=CODECS,
        help="of videos (default: h264, in .webm vp9)",
    )  # fmt: skip
    parser.add_argument(
        "--crf", type=int, metavar="N",
        help="constant rate factor of videos, 0 (best) to 51 (h264, hevc) or 63 (default: "
        + ", ".join(f"{name} {codec.crf}" for name, codec in CODECS.items()) + ")",
    )  # fmt: skip
    parser.add_argument(
        "--deinterlace", action=argparse.BooleanOptionalAction, default=True,
        help="make frames of interlaced video, or refuse it (default: make)",
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
        help="skip what is done: no older than its input, and made by the same model and options",
    )  # fmt: skip
    parser.add_argument(
        "--batch", type=positive, default=1, metavar="N",
        help="images of one size to run as one (default: 1; more is slower on a CPU)",
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


def _format(text: str) -> str:
    """The suffix of an image format that can be written."""
    from hfdn_deploy.errors import InputError
    from hfdn_deploy.images import FORMATS, check_format

    suffix = f".{text.lower().removeprefix('.')}"
    try:
        check_format(Path(f"x{suffix}"))
    except InputError:
        known = ", ".join(name[1:] for name, kind in FORMATS.items() if not kind.why_missing())
        raise argparse.ArgumentTypeError(f"{text!r} is none of {known}") from None
    return suffix


def _suffix(text: str) -> str:
    if {"/", os.sep, "\0"} & {*text}:
        raise argparse.ArgumentTypeError(f"{text!r} leads to another folder; name the output so")
    return text


def naming_options(args: argparse.Namespace) -> "Naming":
    """Return what the options say about the names of outputs."""
    from hfdn_deploy.files import Naming

    return Naming(recursive=args.recursive, format=args.format, suffix=args.suffix)


def writing_options(args: argparse.Namespace) -> "Writing":
    """Return what the options say about the outputs."""
    from hfdn_deploy.files import Writing

    video = VideoOptions(codec=args.codec, crf=args.crf, deinterlace=args.deinterlace)
    return Writing(keep_metadata=args.keep_metadata, quality=args.quality, video=video)


def is_quiet(args: argparse.Namespace) -> bool:
    """Whether nothing but errors is to be shown."""
    return bool(args.log_level == "error")


def model_facts(up: "Upscaler") -> dict[str, Any]:
    """Return what a report says of the model."""
    return {
        "backend": up.backend.name,
        "choice": up.choice,
        "precision": up.backend.precision,
        "scale": up.target.scale,
    }


def image_facts(result: "Done") -> dict[str, Any]:
    """Return what a report says of an image that was written."""
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
    """Say how many outputs are done already."""
    if kept:
        logger.info("%d of %d are done already", kept, number)
    if args.force and args.resume:
        logger.info("--force --resume: what is done is kept, outputs that are not are overwritten")


def warn_of_ignored(args: argparse.Namespace, jobs: "Sequence[Job]") -> None:
    """Warn of options that no output, or not every output, heeds."""
    from hfdn_deploy.images import FORMATS
    from hfdn_deploy.video import is_video

    videos = [job for job in jobs if is_video(job.target)]
    given = [f"--{name}" for name in ("codec", "crf") if getattr(args, name) is not None]
    if given and jobs and not videos:
        logger.warning("%s: for videos, and ignored for images", " and ".join(given))
    if args.quality is None:
        return
    if videos:
        logger.warning("--quality is for images, and ignored for videos, which take --crf")
    suffixes = {job.target.suffix.lower() for job in jobs}
    if exact := sorted(s for s in suffixes if s in FORMATS and not FORMATS[s].lossy):
        lossy = ", ".join(dict.fromkeys(kind.name for kind in FORMATS.values() if kind.lossy))
        logger.warning("--quality is for %s, and ignored for %s", lossy, ", ".join(exact))


def tell(args: argparse.Namespace, written: Sequence[str]) -> None:
    """Name what was written, unless a program reads the output."""
    if written and not args.json and not is_quiet(args):
        print(
            printable(written[0] if len(written) == 1 else f"{args.output}: {len(written)} files")
        )
