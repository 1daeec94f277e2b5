"""The options that several commands share."""

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
    model.add_argument("--scale", type=int, help="of a pretrained bundle (default: 4)")
    model.add_argument("--model", **_MODEL)
    parser.set_defaults(size=None, width=None, height=None)
    _add_opening_arguments(parser)


def add_sized_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the same with the options for the size of the result."""
    parser.add_argument("--model", **_MODEL)
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument(
        "--scale", type=positive_number, metavar="N",
        help="how many times as wide and high: 2, 3, 4, or any above 1 to 16, such as 3.5 or 8, "
        "which is resized from the next larger (default: the model's, or 4)",
    )  # fmt: skip
    sizes.add_argument(
        "--size", type=size, metavar="WxH",
        help="pixels, such as 1920x1080: the largest that fits and keeps the proportions",
    )  # fmt: skip
    sizes.add_argument("--width", type=positive, metavar="N", help="pixels; keeps the proportions")
    sizes.add_argument("--height", type=positive, metavar="N", help="pixels; keeps the proportions")
    _add_opening_arguments(parser)


_MODEL: Any = {"type": Path, "help": "bundle (or x2, x3, x4), engine or checkpoint"}


def _add_opening_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--precision", choices=PRECISIONS,
        help="auto: the fastest here that passed its gates (default: the model's, or fp32)",
    )  # fmt: skip
    parser.add_argument("--backend", default="auto")
    add_run_arguments(parser)


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add those that say how a model runs, for a command that takes several models."""
    parser.add_argument("--ensemble", action="store_true", help="HFDN+: better, 8 times slower")
    parser.add_argument(
        "--tile", type=_tile, default="auto", metavar="N",
        help="pixels of a tile's side; auto (default): whole if memory allows; none: whole",
    )  # fmt: skip
    parser.add_argument(
        "--max-memory", type=_memory, metavar="SIZE",
        help="that an image may take, such as 800M or 1.5GiB (default: half of what is free); "
        "K, M, G and T are KiB, MiB, GiB and TiB; KB, MB, GB and TB are powers of 1000",
    )  # fmt: skip
    parser.add_argument(
        "--allow-ungated", action="store_true", help="run a graph that failed its quality gate"
    )
    parser.add_argument(
        "--trust", action="store_true", help="run an engine that you did not build yourself"
    )


def model_options(args: argparse.Namespace) -> "ModelOptions":
    """Return what the options of `add_model_arguments`, or of the sized ones, ask for."""
    from hfdn_deploy.options import model_and_scale, target_of

    sides = args.size or (args.width, args.height)
    named, scale = args.model, args.scale
    if named is None:  # a whole number from `add_model_arguments` is always a bundle's
        named, scale = (scale, None) if isinstance(scale, int) else model_and_scale(scale)
    target = target_of(sides if any(sides) else None, scale)
    model = 4 if named is None and target is None else named
    options = run_options(args)
    return replace(
        options, model=model, target=target, backend=args.backend, precision=args.precision
    )


def run_options(args: argparse.Namespace) -> "ModelOptions":
    """Return what the options of `add_run_arguments` ask for, without a model."""
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
        argparse.ArgumentTypeError: the text is not one.
    """
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def size(text: str) -> tuple[int, int]:
    """Return the width and height that a text such as 1920x1080 stands for, for `argparse`.

    Raises:
        argparse.ArgumentTypeError: it stands for none.
    """
    found = re.fullmatch(r"([1-9]\d*)[x×]([1-9]\d*)", text.lower(), re.ASCII)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 1920x1080")
    return int(found[1]), int(found[2])


def _tile(text: str) -> int | str | None:
    if text in ("auto", "none"):
        return text if text == "auto" else None
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no side in pixels, auto or none")
    return int(text)


def positive_number(text: str) -> float:
    """Parse a number above 0 that is not infinite.

    Raises:
        argparse.ArgumentTypeError: the text is not one.
    """
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


def _memory(text: str) -> int:
    """Bytes of a size such as 800M, 1.5GiB or 2GB; M is MiB, as elsewhere."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT])(i?B)?", text, re.ASCII | re.IGNORECASE)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 800M or 1.5GiB")
    number, prefix, unit = found.groups()
    thousand = 1000 if unit and len(unit) == 1 else 1024
    size = int(float(number) * thousand ** ("KMGT".index(prefix.upper()) + 1))
    if not size:
        raise argparse.ArgumentTypeError(f"{text!r} is no memory at all")
    return size
