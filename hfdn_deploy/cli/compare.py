"""The command `hfdn compare`."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfdn_deploy.atomic import check_writable
from hfdn_deploy.backends import NAMES
from hfdn_deploy.bundle import PRECISIONS
from hfdn_deploy.cli.options import add_model_arguments, model_options
from hfdn_deploy.cli.printing import print_facts
from hfdn_deploy.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hfdn_deploy.images import Image
    from hfdn_deploy.options import ModelOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    for name in ("a", "b"):
        parser.add_argument(
            name, metavar=name.upper(),
            help="backend, precision, or model: bundle (or x2, x3, x4 from the package), engine or "
            "checkpoint; or several of these, separated by commas; the options give the rest",
        )  # fmt: skip
    parser.add_argument("--input", type=Path, required=True, metavar="IMAGE")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="OUT",
        help="image of the absolute differences; the largest difference is white",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="overwrite OUT if it exists")
    add_model_arguments(parser)
    parser.add_argument("--json", action="store_true", help="machine-readable output")


def run(args: argparse.Namespace) -> None:
    """Upscale an image twice, and report how far the results differ.

    Raises:
        InputError: the image is not usable, the models have different scales, or OUT exists.
        HFDNError: a model cannot be opened or run.
    """
    from hfdn_deploy.images import check_format, read_image, write_image

    if args.output:
        check_format(args.output)
        check_writable(args.output, overwrite=args.force)
    image = read_image(args.input)
    if args.output and args.output.exists() and args.output.samefile(args.input):
        raise InputError(f"{args.output} is the input; name another output.")
    options = model_options(args)
    (first, a), (second, b) = (_upscaled(name, options, image) for name in (args.a, args.b))
    if a.shape != b.shape:
        raise InputError(f"{args.a} is ×{first['scale']} and {args.b} ×{second['scale']}", _ALIKE)
    levels, facts = _differences(a, b)
    args.report |= {"a": first, "b": second, **facts}
    if args.output:
        write_image(args.output, levels, overwrite=args.force)
        args.report["written"] = str(args.output)
    if not args.json:
        print_facts(args.report)


_ALIKE = "compare models of one scale"


def _upscaled(name: str, options: "ModelOptions", image: "Image") -> "tuple[dict[str, Any], Image]":
    """Return facts about the model that ran, and its result."""
    from hfdn_deploy.upscaler import Upscaler

    options = variant(name, options)
    with Upscaler.open(options) as up:
        facts = {"model": str(options.model), "scale": up.scale, "backend": up.backend.name}
        return {**facts, "precision": up.backend.precision}, up(image)


def variant(name: str, options: "ModelOptions") -> "ModelOptions":
    """Return options with the backends, precisions and models of a comma-separated name."""
    for word in [name] if Path(name).exists() else name.split(","):
        if word in ("auto", *NAMES):
            options = replace(options, backend=word)
        elif word in PRECISIONS:
            options = replace(options, precision=word)
        else:
            options = replace(options, model=Path(word))
    return options


def _differences(a: "Image", b: "Image") -> "tuple[NDArray[np.uint8], dict[str, Any]]":
    """Return the absolute differences, stretched to 8 bits, and figures in levels of 255."""
    import numpy as np

    from hfdn_deploy.bench import PEAK, psnr
    from hfdn_deploy.images import WHITE

    x, y = (image.astype(np.float64) * (PEAK / WHITE[image.dtype.name]) for image in (a, b))
    apart = np.abs(x - y)
    largest = float(apart.max())
    decibels = psnr(x.reshape(len(x), -1), y.reshape(len(y), -1))
    facts = {
        "psnr_db": None if np.isinf(decibels) else round(decibels, 3),
        "largest_difference": round(largest, 4),
        "mean_difference": round(float(apart.mean()), 6),
        "values_that_differ": round(float((apart > 0).mean()), 6),
    }
    # Alpha is the same on all backends; as the last channel it would hide the differences.
    colour = apart[..., :-1] if apart.ndim == 3 and apart.shape[2] in (2, 4) else apart
    return np.round(colour * (PEAK / largest if largest else 0)).astype(np.uint8), facts
