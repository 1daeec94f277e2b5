"""The command `hfdn info`: describe a file, importing only what its kind needs."""

import argparse
import hashlib
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfdn_deploy.atomic import check_regular
from hfdn_deploy.cli.printing import print_facts
from hfdn_deploy.errors import CheckpointError, InputError

if TYPE_CHECKING:
    import onnx


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("file", type=Path, help="file, bundle, or x2, x3, x4 from the package")
    parser.add_argument("--json", action="store_true", help="machine-readable output")


def run(args: argparse.Namespace) -> None:
    """Describe a file."""
    args.report |= describe(args.file)
    if not args.json:
        print_facts(_in_words(args.report))


def _in_words(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the facts; of a bundle's parity, what was found in a line per kind of image."""
    if facts["kind"] != "bundle":
        return facts
    parity = {graph: found and _parity(found) for graph, found in facts["parity"].items()}
    return {**facts, "parity": parity}


def _parity(found: dict[str, Any]) -> dict[str, str]:
    failed = found["failed"]
    gates = f"failed, {failed}" if failed else f"all {len(found['gates'])} passed"
    kinds = {row["kind"]: _departure(row) for row in found["kinds"]}
    worst = found["worst"]
    difference = {"largest difference": f"{worst['max_abs']:.2g} of 1, on {worst['name']!r}"}
    return {"gates": gates, **(kinds or difference)}


def _departure(row: dict[str, Any]) -> str:
    """Return in words how far a graph departed from fp32; `row` is a `KindParity`."""
    if row["max_levels"] < 0.5:
        return "less than half a level off"
    levels = f"{row['max_levels']:.0f}"
    decibels = 20 * math.log10(255 / row["rms_levels"])
    text = f"up to {levels} level{'s' * (levels != '1')} off, at least {decibels:.1f} dB"
    if row["max_levels"] > 8:
        text += f"; {1e4 * row['beyond']['8']:.1f} in 10,000 pixels are more than 8 off"
    return text


def describe(path: Path) -> dict[str, Any]:
    """Return JSON-ready facts about a file or bundle directory; "kind" names its kind.

    A bundle's graphs are checked against their hashes. An engine is not loaded.

    Raises:
        InputError: the file is missing, damaged or of an unknown kind.
    """
    from hfdn_deploy.backends import CHECKPOINT_SUFFIXES
    from hfdn_deploy.bundle import is_scale
    from hfdn_deploy.engines import ENGINE_SUFFIXES

    if path.is_dir():
        return _bundle(path)
    if is_scale(str(path)) and not path.exists():
        from hfdn_deploy.bundle import named_bundle

        return _bundle(named_bundle(str(path)).path)
    if not path.exists():
        raise InputError(f"{path} does not exist; check the path.")
    check_regular(path, InputError)
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        return _onnx(path)
    if suffix in ENGINE_SUFFIXES:
        return _engine(path)
    if suffix == ".safetensors":
        return _safetensors(path)
    if suffix in CHECKPOINT_SUFFIXES:
        # Its content is only known after unpickling, which could run code.
        return {"kind": "checkpoint", "format": "PyTorch, not read", "bytes": path.stat().st_size}
    from hfdn_deploy.video import describe_video, is_video

    if is_video(path):
        return {"kind": "video", **describe_video(path)}
    return _image(path)


def _image(path: Path) -> dict[str, Any]:
    from hfdn_deploy.images import IMAGE_SUFFIXES, Animation, ImageReader, size_of

    try:
        with ImageReader(path) as reader:
            header, image = reader.header, reader.read()
    except InputError as error:
        if path.suffix.lower() in IMAGE_SUFFIXES:
            raise
        known = "bundle, ONNX graph, engine, checkpoint, image or video"
        raise InputError(f"{path} is not a known {known}; check the path.") from error
    height, width, channels = size_of(image)
    facts: dict[str, Any] = {"format": header.format, "width": width, "height": height}
    facts |= {"channels": channels, "dtype": image.dtype.name, "animated": header.animated}
    if header.animated:
        with Animation(path) as animation:
            milliseconds = animation.milliseconds
        facts |= {"frames": len(milliseconds), "seconds": sum(milliseconds) / 1000}
    return {"kind": "image", **facts}


def _engine(path: Path) -> dict[str, Any]:
    from hfdn_deploy.engines import holds, read_sidecar, sidecar_path

    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    facts = {"kind": "engine", "bytes": path.stat().st_size, "sha256": digest}
    if not sidecar_path(path).exists():
        return {**facts, "sidecar": "none"}
    sidecar = read_sidecar(path)
    unchanged = sidecar.sealed() == sidecar
    fits = unchanged and (sidecar.bytes, sidecar.sha256) == (facts["bytes"], digest)
    profiles = [str(profile) for profile in sidecar.spec.profiles]
    return {
        **asdict(sidecar),
        **facts,
        "profiles": profiles,
        "sidecar_unchanged": unchanged,
        "fits_its_sidecar": fits,
        "built_by_this_user": fits and holds(digest),
    }


def _bundle(path: Path) -> dict[str, Any]:
    from hfdn_deploy.bundle import Bundle, why_failed

    # A bundle that failed its gates should still be described.
    bundle = Bundle(path, allow_ungated=True)
    for entry in bundle.manifest.files:
        bundle.read_model(entry.graph)
    manifest = asdict(bundle.manifest)
    if manifest["quantization"]:
        # Thousands of numbers that only the exporter needs.
        for key in ("channel_means", "ranges"):
            del manifest["quantization"][key]
    # Parity answers the most frequent question, so it gets its own section.
    parity = {entry["graph"]: entry.pop("parity") for entry in manifest["files"]}
    parity |= manifest.pop("derived")
    judged = {entry.graph: entry.parity for entry in bundle.manifest.files}
    for graph, found in (judged | bundle.manifest.derived).items():
        if found:
            parity[graph]["failed"] = why_failed(found)
    return {"kind": "bundle", **manifest, "parity": parity}


def _onnx(path: Path) -> dict[str, Any]:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError:
        model = onnx.ModelProto()
    graph = model.graph
    if not graph.node:
        raise InputError(f"{path} is not an ONNX graph, or is truncated; export it again.")
    operators: dict[str, int] = {}
    for node in graph.node:
        name = _text(node.op_type)
        operators[name] = operators.get(name, 0) + 1
    return {
        "kind": "onnx",
        "opset": {_text(entry.domain) or "ai.onnx": entry.version for entry in model.opset_import},
        "inputs": [_value(value) for value in graph.input],
        "outputs": [_value(value) for value in graph.output],
        "operators": dict(sorted(operators.items())),
        "producer": _text(model.producer_name),
        **{_text(entry.key): _text(entry.value) for entry in model.metadata_props},
    }


def _value(value: "onnx.ValueInfoProto") -> str:
    import onnx

    try:
        return onnx.helper.printable_value_info(value)
    except ValueError:  # unknown type
        return f"%{_text(value.name)}[unknown type]"


def _text(value: str | bytes) -> str:
    """Decode a text from protobuf, which is bytes if it is not valid UTF-8."""
    return value if isinstance(value, str) else value.decode(errors="backslashreplace")


def _safetensors(path: Path) -> dict[str, Any]:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        reason = "safetensors is not installed: pip install 'hfdn-deploy[torch]'"
        raise CheckpointError(f"{path} cannot be read: {reason}.") from None
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); copy it again.") from None
    from hfdn_deploy.network import METADATA_KEY

    try:
        configuration = json.loads(metadata[METADATA_KEY])
    except (KeyError, ValueError, RecursionError):
        configuration = None
    return {
        "kind": "checkpoint",
        "format": "safetensors",
        "configuration": configuration,
        "tensors": len(shapes),
        "parameters": sum(map(math.prod, shapes)),
    }
