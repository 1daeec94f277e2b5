"""`hfdn build` and `hfdn inspect`."""

import argparse
import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

from hfdn_deploy import cuda
from hfdn_deploy.bundle import GRAPHS, Bundle
from hfdn_deploy.engines import (
    ENGINE_SUFFIXES,
    FLAVOURS,
    BuildSpec,
    LoadedEngine,
    ShapeProfile,
    cached_engine,
    check_device,
    choose_flavour,
    copy_engine,
    named_bundle,
    open_engine,
    presets,
    read_sidecar,
    resolve_targets,
)
from hfdn_deploy.errors import InputError

logger = logging.getLogger(__name__)


def add_commands(commands: Any) -> None:
    """Add both to the subcommands of `hfdn`."""
    build = commands.add_parser("build", help="build a TensorRT engine")
    build.add_argument(
        "bundle", metavar="BUNDLE", help="bundle directory, or x2, x3, x4 of the package"
    )
    build.add_argument("--precision", choices=GRAPHS, default="fp16")
    build.add_argument(
        "-o", "--output", type=Path, metavar="ENGINE", help="default: into the cache alone"
    )
    build.add_argument("--flavour", choices=("auto", *FLAVOURS), default="auto")
    build.add_argument(
        "--target", nargs="+", default=[], metavar="SM",
        help="compute capabilities, such as sm89 (default: this GPU's)",
    )  # fmt: skip
    build.add_argument(
        "--profile", nargs="+", default=[], choices=tuple(presets(4)),
        help="named ranges of input shapes (default: photo)",
    )  # fmt: skip
    build.add_argument(
        "--shapes", nargs=3, action="append", default=[], metavar=("MIN", "OPT", "MAX"),
        help="a range of one's own, WIDTHxHEIGHT or BATCHxWIDTHxHEIGHT each",
    )  # fmt: skip
    build.add_argument("--hardware-compatible", action="store_true", help="for later GPUs too")
    build.add_argument("--version-compatible", action="store_true", help="for later versions too")
    build.add_argument(
        "--strip-weights", action="store_true", help="take them from the bundle when it is opened"
    )
    build.add_argument("--optimization-level", type=int, choices=range(6), default=3)
    build.add_argument("--workspace", type=int, metavar="MIB", help="limit of scratch memory")
    build.add_argument(
        "--allow-ungated", action="store_true", help="build a graph that failed its quality gate"
    )
    build.add_argument("--json", action="store_true", help="machine-readable output")
    build.set_defaults(command=_build)

    inspect = commands.add_parser("inspect", help="say what runs in which precision (on a GPU)")
    inspect.add_argument("engine", type=Path, metavar="ENGINE")
    inspect.add_argument("--trust", action="store_true", help="an engine that you did not build")
    inspect.add_argument("--json", action="store_true", help="all that the library says")
    inspect.set_defaults(command=_inspect)


def _build(args: argparse.Namespace) -> None:
    if args.output and args.output.suffix.lower() not in ENGINE_SUFFIXES:
        known = " or ".join(ENGINE_SUFFIXES)
        raise InputError(f"{args.output} does not end in {known}; name it so.")
    bundle = named_bundle(args.bundle, args.allow_ungated)
    engine = cached_engine(bundle, args.precision, _spec(args, bundle))
    if args.output:
        copy_engine(engine, args.output)
        engine = args.output
    manifest = read_sidecar(engine)
    if args.json:
        facts = {"engine": str(engine), "seconds": manifest.build_seconds, "bytes": manifest.bytes}
        print(json.dumps(facts, indent=1))
        return
    print(f"{engine}: {manifest.precision}, {manifest.bytes:,} bytes, {manifest.made}")


def _spec(args: argparse.Namespace, bundle: Bundle) -> BuildSpec:
    named = presets(bundle.manifest.scale)
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


def _inspect(args: argparse.Namespace) -> None:
    engine = open_engine(args.engine, args.trust, allow_ungated=True)
    check_device(engine.path, engine.manifest, cuda.Device.current())
    loaded = LoadedEngine(engine)
    text = loaded.inspect()
    if args.json:
        print(text)
        return
    report = json.loads(text)
    layers = report["Layers"]
    print("| layer | type | output |\n|---|---|---|")
    if not all(isinstance(layer, dict) for layer in layers):
        raise InputError(f"{args.engine} was built without details of its layers; build it anew.")
    for layer in layers:
        outputs = ", ".join(_format(tensor) for tensor in layer["Outputs"])
        print(f"| {layer['Name']} | {layer['LayerType']} | {outputs} |")
    formats = Counter(_format(tensor) for layer in layers for tensor in layer["Outputs"])
    reformats = sum("reformat" in layer["LayerType"].lower() for layer in layers)
    counts = ", ".join(f"{count} × {name}" for name, count in formats.most_common())
    print(f"\n{len(layers)} layers, {reformats} of them reformats; outputs: {counts}")
    print(f"weights and code, the engine's file: {engine.manifest.bytes / 2**20:.1f} MiB")
    for index, size in enumerate(loaded.device_memory()):
        print(f"activations of profile {index}: at most {size / 2**20:.1f} MiB")


def _format(tensor: dict[str, Any]) -> str:
    """Layout and type of a tensor; TensorRT 11 tells them apart."""
    names = ("Format/Datatype", "Format", "DataType", "Datatype")
    return " ".join(str(tensor[name]) for name in names if name in tensor) or "unknown"
