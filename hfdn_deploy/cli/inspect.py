"""The command `hfdn inspect`."""

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

from hfdn_deploy.cli.printing import printable
from hfdn_deploy.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("engine", type=Path, metavar="ENGINE")
    parser.add_argument(
        "--trust", action="store_true", help="load an engine that you did not build"
    )
    parser.add_argument("--json", action="store_true", help="the full report of the library")


def run(args: argparse.Namespace) -> None:
    """Print the layers of an engine, their types and its memory."""
    from hfdn_deploy.cuda import Device
    from hfdn_deploy.engines import LoadedEngine, check_device, open_engine

    engine = open_engine(args.engine, args.trust, allow_ungated=True)
    check_device(engine.path, engine.manifest, Device.current())
    loaded = LoadedEngine(engine)
    text = loaded.inspect()
    if args.json:
        print(text)
        return
    report = json.loads(text)
    layers = report["Layers"]
    print("| layer | type | output |\n|---|---|---|")
    if not all(isinstance(layer, dict) for layer in layers):
        raise InputError(f"{args.engine} was built without details of its layers; build it again.")
    for layer in layers:
        outputs = ", ".join(_format(tensor) for tensor in layer["Outputs"])
        print(printable(f"| {layer['Name']} | {layer['LayerType']} | {outputs} |"))
    formats = Counter(_format(tensor) for layer in layers for tensor in layer["Outputs"])
    reformats = sum("reformat" in layer["LayerType"].lower() for layer in layers)
    counts = ", ".join(f"{count} × {name}" for name, count in formats.most_common())
    print(f"\n{len(layers)} layers, {reformats} of them reformats; outputs: {counts}")
    print(f"weights and code, the engine's file: {engine.manifest.bytes / 2**20:.1f} MiB")
    for index, size in enumerate(loaded.device_memory()):
        print(f"activations of profile {index}: at most {size / 2**20:.1f} MiB")


def _format(tensor: dict[str, Any]) -> str:
    """Return layout and type of a tensor; TensorRT 11 has separate keys for them."""
    names = ("Format/Datatype", "Format", "DataType", "Datatype")
    return " ".join(str(tensor[name]) for name in names if name in tensor) or "unknown"
