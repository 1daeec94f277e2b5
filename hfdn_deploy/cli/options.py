"""Options that several commands share."""

import argparse
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfdn_deploy.bundle import PRECISIONS as KNOWN_PRECISIONS

if TYPE_CHECKING:
    from hfdn_deploy.options import ModelOptions


PRECISIONS = ("auto", *KNOWN_PRECISIONS)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that `model_options` reads."""
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--scale", type=int, help="scale of a pretrained bundle (default: 4)")
    model.add_argument("--model", **_MODEL)
    parser.set_defaults(size=None, width=None, height=None)
    _add_opening_arguments(parser)


def add_sized_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that `model_options` reads, with those for the size of the result."""
    parser.add_argument("--model", **_MODEL)
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument(
        "--scale", type=positive_number, metavar="N",
        help="how many times as wide and high: 2, 3, 4, or another number above 1 and up to 16 "
        "such as 3.5 or 8, resized from the next larger scale (default: the model's, or 4)",
    )  # fmt: skip
    sizes.add_argument(
        "--size", type=size, metavar="WxH",
        help="box in pixels such as 1920x1080: the largest size that fits and keeps proportions",
    )  # fmt: skip
    sizes.add_argument("--width", type=positive, metavar="N", help="in pixels; keeps proportions")
    sizes.add_argument("--height", type=positive, metavar="N", help="in pixels; keeps proportions")
    _add_opening_arguments(parser)


_MODEL: Any = {"type": Path, "help": "bundle (or x2, x3 or x4), engine or checkpoint"}


def _add_opening_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--precision", choices=PRECISIONS,
        help="auto: the fastest here that passed its quality gate (default: the model's, or fp32)",
    )  # fmt: skip
    parser.add_argument("--backend", default="auto")
    add_run_arguments(parser)


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options for how a model runs, for commands that take several models."""
    parser.add_argument("--ensemble", action="store_true", help="HFDN+: better, but 8 times slower")
    parser.add_argument(
        "--tile", type=_tile, default="auto", metavar="N",
        help="side of a tile in pixels; auto (default): tiles if memory requires them; none: never",
    )  # fmt: skip
    parser.add_argument(
        "--max-memory", type=_memory, metavar="SIZE",
        help="memory that an image may take, such as 800M or 1.5GiB (default: half of the free "
        "memory); K, M, G and T are KiB, MiB, GiB and TiB; KB, MB, GB and TB are powers of 1000",
    )  # fmt: skip
    parser.add_argument(
        "--allow-ungated", action="store_true", help="run a graph that failed its quality gate"
    )
    parser.add_argument(
        "--trust", action="store_true", help="run an engine that you did not build yourself"
    )


def model_options(args: argparse.Namespace) -> "ModelOptions":
    """Return the options of `add_model_arguments` or `add_sized_model_arguments` as a record."""
    from hfdn_deploy.options import model_and_scale, target_of

    sides = args.size or (args.width, args.height)
    named, scale = args.model, args.scale
    if named is None:  # an int from `add_model_arguments` names a bundle
        named, scale = (scale, None) if isinstance(scale, int) else model_and_scale(scale)
    target = target_of(sides if any(sides) else None, scale)
    model = 4 if named is None and target is None else named
    options = run_options(args)
    return replace(
        options, model=model, target=target, backend=args.backend, precision=args.precision
    )


def run_options(args: argparse.Namespace) -> "ModelOptions":
    """Return the options of `add_run_arguments` as a record without a model."""
    from hfdn_deploy.options import ModelOptions

    return ModelOptions(
        ensemble=args.ensemble,
        tile=args.tile,
        max_memory=args.max_memory,
        allow_ungated=args.allow_ungated,
        trust=args.trust,
    )


def positive(text: str) -> int:
    """Parse a whole number above 0.

    Raises:
        argparse.ArgumentTypeError: the text is not a whole number above 0.
    """
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def size(text: str) -> tuple[int, int]:
    """Parse a width and height such as 1920x1080.

    Raises:
        argparse.ArgumentTypeError: the text is not a size.
    """
    found = re.fullmatch(r"([1-9]\d*)[x×]([1-9]\d*)", text.lower(), re.ASCII)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 1920x1080")
    return int(found[1]), int(found[2])


def _tile(text: str) -> int | str | None:
    if text in ("auto", "none"):
        return text if text == "auto" else None
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a side in pixels, auto or none")
    return int(text)


def positive_number(text: str) -> float:
    """Parse a finite number above 0.

    Raises:
        argparse.ArgumentTypeError: the text is not a finite number above 0.
    """
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


def _memory(text: str) -> int:
    """Parse a size such as 800M, 1.5GiB or 2GB to bytes; M means MiB."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT])(i?B)?", text, re.ASCII | re.IGNORECASE)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 800M or 1.5GiB")
    number, prefix, unit = found.groups()
    thousand = 1000 if unit and len(unit) == 1 else 1024
    size = int(float(number) * thousand ** ("KMGT".index(prefix.upper()) + 1))
    if not size:
        raise argparse.ArgumentTypeError(f"{text!r} is less than a byte; give a size such as 800M")
    return size
