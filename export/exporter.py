"""The two things the exporter does: make a bundle, and verify one."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from importlib.metadata import version
from pathlib import Path

import onnx

from export import graph, parity, precisions
from hfdn_deploy.bundle import MANIFEST, PRECISIONS, SCHEMA, Bundle, Manifest, ModelFile, TensorSpec
from hfdn_deploy.errors import BundleError, GateError, InputError
from hfdn_deploy.files import replaced
from hfdn_deploy.network.checkpoints import load_checkpoint
from hfdn_deploy.network.complexity import count
from hfdn_deploy.network.config import HFDNConfig
from hfdn_deploy.network.hfdn import HFDN

logger = logging.getLogger(__name__)

TOOLS = ("hfdn-deploy", "torch", "onnx", "onnxscript", "onnxruntime", "numpy")


def export_bundle(
    checkpoint: Path,
    output: Path,
    wanted: Sequence[str] = ("fp32",),
    config: HFDNConfig | None = None,
    locate: bool = False,
) -> Bundle:
    """Export a checkpoint to a bundle directory, which appears only if every gate passed.

    Args:
        checkpoint: a `.safetensors` file, or a `.pth` whose network `config` tells.
        output: the bundle's directory; an older bundle there is replaced.
        wanted: which precisions' graphs to make, of `hfdn_deploy.bundle.PRECISIONS`.
        locate: on a failed parity, name the first node that departs.

    Raises:
        CheckpointError: the checkpoint is not usable.
        InputError: `output` exists and is no bundle, or cannot be written.
        GateError: a graph is not equal enough to the network.
    """
    _refuse_to_replace_other_things(output)
    network = load_checkpoint(checkpoint, config)
    full = graph.to_onnx(network)
    graphs = {precision: _make(full, precision).SerializeToString() for precision in wanted}
    entries = [
        _model_file(_file_name(precision), precision, data, network, locate)
        for precision, data in graphs.items()
    ]
    manifest = _manifest(checkpoint, network, tuple(entries))
    with replaced(output) as temporary:
        temporary.mkdir()
        for entry in entries:
            (temporary / entry.file).write_bytes(graphs[entry.precision])
        (temporary / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return Bundle(output)


def verify_bundle(
    path: Path, checkpoint: Path, config: HFDNConfig | None = None, locate: bool = False
) -> tuple[ModelFile, ...]:
    """Repeat the parity gates of a bundle against the checkpoint it was made from.

    Returns:
        The bundle's files with the parity measured now.

    Raises:
        BundleError: the bundle is damaged, or was made from another checkpoint.
        GateError: a graph is not equal enough to the network.
    """
    bundle = Bundle(path)
    network = load_checkpoint(checkpoint, config)
    if bundle.manifest.checkpoint_sha256 != _sha256(checkpoint.read_bytes()):
        raise BundleError(f"{path} was not exported from {checkpoint}; name its own checkpoint.")
    manifest = _manifest(checkpoint, network, bundle.manifest.files)
    for field in fields(Manifest):
        said, true = (getattr(m, field.name) for m in (bundle.manifest, manifest))
        if said != true and field.name != "tools":
            raise BundleError(f"{path} says {field.name} {said}, but it is {true}; export it anew.")
    measured = []
    for entry in bundle.manifest.files:
        data = bundle.read_model(entry.precision)
        found = _model_file(entry.file, entry.precision, data, network, locate)
        if replace(found, parity=entry.parity) != entry:
            raise BundleError(f"{path} describes {entry.file} wrongly; export it anew.")
        measured.append(found)
    return tuple(measured)


def _file_name(precision: str) -> str:
    return f"{precision}.onnx"


def _make(full: onnx.ModelProto, precision: str) -> onnx.ModelProto:
    """The graph of one precision; weights that leave its range are reported."""
    if precision == "fp32":
        return full
    half, losses = precisions.to_fp16(full)
    for loss in losses:
        logger.warning(
            "fp16: in %s, %d weights overflow and %d become zero",
            loss.node, loss.overflowed, loss.flushed,
        )  # fmt: skip
    return half


def _refuse_to_replace_other_things(output: Path) -> None:
    """Raise InputError if there is something at `output` that is not a bundle and no more."""
    if not output.exists():
        return
    graphs = set(map(_file_name, PRECISIONS))
    present = {path.name for path in output.iterdir()} if output.is_dir() else {output.name}
    # A damaged bundle, or one of another version, is still to be replaced: it has graphs.
    if not present <= {MANIFEST, *graphs} or not present & graphs:
        raise InputError(f"{output} exists and is no bundle; name another directory.")


def _manifest(checkpoint: Path, network: HFDN, entries: tuple[ModelFile, ...]) -> Manifest:
    return Manifest(
        schema=SCHEMA,
        scale=network.config.scale,
        configuration=network.config.to_dict(),
        **asdict(count(network, network.config.scale)),
        checkpoint_sha256=_sha256(checkpoint.read_bytes()),
        tools={name: version(name) for name in TOOLS},
        files=entries,
    )


def _model_file(file: str, precision: str, data: bytes, network: HFDN, locate: bool) -> ModelFile:
    """Judge a serialised graph and describe it.

    Raises:
        GateError: it failed; the message names the worst case and, with `locate`, the node.
    """
    scale = network.config.scale
    model = onnx.load_model_from_string(data)
    result = parity.compare(parity.candidate(model), parity.reference(network), scale, precision)
    if not result.passed:
        where = "add --locate to see where"
        if locate:
            node = parity.locate(model, network, result.worst.name, precision)
            where = f"first departing node: {node}"
        failed = [gate for gate in result.gates if not gate.value <= gate.limit]
        figures = ", ".join(f"{g.name} is {g.value:.3g}, allowed {g.limit:g}" for g in failed)
        raise GateError(
            f"the {precision} graph departs from PyTorch, most on {result.worst.name!r}: "
            f"{figures}; {where}."
        )
    return ModelFile(
        file=file,
        precision=precision,
        sha256=_sha256(data),
        input=TensorSpec.from_onnx(model.graph.input[0]),
        output=TensorSpec.from_onnx(model.graph.output[0]),
        value_range=(0.0, 1.0),
        minimum_size=(1, 1),
        halo=graph.halo(model, scale),
        pools_globally=any(map(graph.is_global_pool, model.graph.node)),
        parity=result,
    )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
