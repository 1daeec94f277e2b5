"""The command `hfdn build`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from hfdn_deploy.bundle import GRAPHS
from hfdn_deploy.cli.printing import printable
from hfdn_deploy.engines import ENGINE_SUFFIXES, FLAVOURS, presets
from hfdn_deploy.errors import InputError

if TYPE_CHECKING:
    from hfdn_deploy.engines import BuildSpec


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "bundle", metavar="BUNDLE", help="bundle directory, or x2, x3, x4 from the package"
    )
    parser.add_argument("--precision", choices=GRAPHS, default="fp16")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="ENGINE", help="default: only into the cache"
    )
    parser.add_argument("--flavour", choices=("auto", *FLAVOURS), default="auto")
    parser.add_argument(
        "--target", nargs="+", default=[], metavar="SM",
        help="compute capabilities such as sm89 (default: that of this GPU)",
    )  # fmt: skip
    parser.add_argument(
        "--profile", nargs="+", default=[], choices=tuple(presets(4)),
        help="named ranges of input shapes (default: photo)",
    )  # fmt: skip
    parser.add_argument(
        "--shapes", nargs=3, action="append", default=[], metavar=("MIN", "OPT", "MAX"),
        help="custom range of input shapes, each WIDTHxHEIGHT or BATCHxWIDTHxHEIGHT",
    )  # fmt: skip
    parser.add_argument("--hardware-compatible", action="store_true", help="run on later GPUs, too")
    parser.add_argument(
        "--version-compatible", action="store_true", help="run on later versions, too"
    )
    parser.add_argument(
        "--strip-weights", action="store_true", help="read the weights from the bundle on opening"
    )
    parser.add_argument("--optimization-level", type=int, choices=range(6), default=3)
    parser.add_argument("--workspace", type=int, metavar="MIB", help="limit of scratch memory")
    parser.add_argument(
        "--allow-ungated", action="store_true", help="build a graph that failed its quality gate"
    )
    parser.add_argument("--json", action="store_true", help="machine-readable output")


def run(args: argparse.Namespace) -> None:
    """Build an engine, or find it in the cache, and print its path."""
    from hfdn_deploy.bundle import named_bundle
    from hfdn_deploy.engines import cached_engine, copy_engine, read_sidecar

    if args.output and args.output.suffix.lower() not in ENGINE_SUFFIXES:
        known = " or ".join(ENGINE_SUFFIXES)
        raise InputError(f"{args.output} does not end in {known}; rename it.")
    bundle = named_bundle(args.bundle, args.allow_ungated)
    engine = cached_engine(bundle, args.precision, _spec(args, bundle.manifest.scale))
    if args.output:
        copy_engine(engine, args.output)
        engine = args.output
    manifest = read_sidecar(engine)
    facts = {"engine": str(engine), "seconds": manifest.build_seconds, "bytes": manifest.bytes}
    args.report |= facts
    if not args.json and args.log_level != "error":
        made = f"{manifest.precision}, {manifest.bytes:,} bytes, {manifest.made}"
        print(printable(f"{engine}: {made}"))


def _spec(args: argparse.Namespace, scale: int) -> "BuildSpec":
    from hfdn_deploy.engines import BuildSpec, ShapeProfile, choose_flavour, resolve_targets

    named = presets(scale)
    profiles = [named[name] for name in dict.fromkeys(args.profile)]
    profiles += [ShapeProfile.parse(*shapes) for shapes in args.shapes]
    flavour = choose_flavour(args.flavour).name
    return BuildSpec(
        flavour=flavour,
        profiles=tuple(profiles or [named["photo"]]),
        targets=resolve_targets(flavour, args.target),
        hardware_compatible=args.hardware_compatible,
        version_compatible=args.version_compatible,
        strip_weights=args.strip_weights,
        optimization_level=args.optimization_level,
        workspace=None if args.workspace is None else args.workspace << 20,
    )
