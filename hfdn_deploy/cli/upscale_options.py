"""The options of `hfdn upscale`, and what they mean to the rest of the package."""

import argparse
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hfdn_deploy.cli.options import add_model_arguments, positive
from hfdn_deploy.cli.printing import printable
from hfdn_deploy.video import CODECS, VideoOptions

if TYPE_CHECKING:
    from hfdn_deploy.files import Job, Writing

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


def writing_options(args: argparse.Namespace) -> "Writing":
    """Return what the options say about the outputs."""
    from hfdn_deploy.files import Writing

    video = VideoOptions(codec=args.codec, crf=args.crf, deinterlace=args.deinterlace)
    return Writing(keep_metadata=args.keep_metadata, quality=args.quality, video=video)


def scale_for_resume(args: argparse.Namespace) -> int | None:
    """The model's scale without opening it, for --resume; None if that does not tell."""
    if not args.resume:
        return None
    if args.model is None:
        return 4 if args.scale is None else int(args.scale)
    from hfdn_deploy.cli.info import describe

    facts = describe(args.model)
    scale: int | None = {**facts, **(facts.get("configuration") or {})}.get("scale")
    return scale


def say_what_is_kept(args: argparse.Namespace, kept: int, number: int) -> None:
    """Say how many outputs are done already."""
    if kept:
        logger.info("%d of %d are done already", kept, number)
    if args.force and args.resume:
        logger.info("--force --resume: what is done is kept, outputs that are not are overwritten")


def warn_of_quality(jobs: "Sequence[Job]") -> None:
    """Warn where the quality is ignored."""
    from hfdn_deploy.images import FORMATS
    from hfdn_deploy.video import is_video

    if any(is_video(job.source) for job in jobs):
        logger.warning("--quality is for pictures; --crf is for videos")
    suffixes = {job.target.suffix.lower() for job in jobs}
    if exact := sorted(s for s in suffixes if s in FORMATS and not FORMATS[s].lossy):
        logger.warning("--quality is for JPEG, WebP and AVIF, and ignored for %s", ", ".join(exact))


def tell(args: argparse.Namespace, written: Sequence[str]) -> None:
    """Name what was written, unless a program reads the output."""
    if written and not args.json:
        print(
            printable(written[0] if len(written) == 1 else f"{args.output}: {len(written)} files")
        )
