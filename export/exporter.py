"""Export and verification of bundles."""

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from importlib.metadata import version
from pathlib import Path

import onnx

from export import parity, report, sensitivity, tracing
from export.calibration import Pictures, load_pictures
from export.describe import describe
from export.fp16 import to_fp16
from export.judge import Judge, derived_from, file_name, sha256
from export.layers import channels_fit, layer_macs, observed_tensors
from export.quantization import DIALECTS, quantize
from hfdn_deploy.atomic import check_writable, replaced
from hfdn_deploy.bundle import (
    GRAPH_NAMES,
    GRAPHS,
    MANIFEST,
    SCHEMA,
    Bundle,
    Manifest,
    ModelFile,
    Parity,
    Quantization,
    why_failed,
)
from hfdn_deploy.errors import BundleError, GateError, InputError
from hfdn_deploy.graph import GraphView
from hfdn_deploy.network import HFDN, HFDNConfig, count_complexity, load_checkpoint

logger = logging.getLogger(__name__)

TOOLS = ("hfdn-deploy", "torch", "onnx", "onnxscript", "onnxruntime", "numpy")


def export_bundle(
    checkpoint: Path,
    output: Path,
    wanted: Sequence[str] = ("fp32",),
    config: HFDNConfig | None = None,
    calibration: Path | None = None,
    budget_db: float | None = None,
    report_to: Path | None = None,
) -> Bundle:
    """Export a checkpoint to a bundle directory, which is written only if every gate passes.

    Args:
        checkpoint: a `.safetensors` file, or a `.pth` file whose network `config` describes.
        output: the bundle's directory; an older bundle there is replaced.
        wanted: the precisions to export, keys of `hfdn_deploy.bundle.GRAPHS`.
        calibration: folder of images for INT8 calibration (by default photographs of
            scikit-image), or a bundle of this checkpoint, whose calibration is reused.
        budget_db: largest PSNR loss of INT8 (default: 0.05); not with a bundle's calibration.
        report_to: folder for the report on each layer's loss; not with a bundle's calibration.

    Raises:
        CheckpointError: the checkpoint is not usable.
        InputError: a precision has no graph of its own, or `output` exists and is not a bundle, or
            cannot be written.
        GateError: a graph differs too much from the network.
    """
    if unknown := [precision for precision in wanted if precision not in GRAPHS]:
        raise InputError(f"{', '.join(unknown)}: not exported; choose from {', '.join(GRAPHS)}.")
    _refuse_to_replace_other_things(output)
    check_writable(output, overwrite=True)
    if report_to:
        check_writable(report_to / checkpoint.stem, overwrite=True)
    network = load_checkpoint(checkpoint, config)
    digest = sha256(checkpoint.read_bytes())
    scale = network.config.scale
    source = None
    if "int8" in wanted:
        renewed = budget_db is not None or report_to is not None
        source = _calibration_source(scale, checkpoint, calibration, renewed)
    logger.info("tracing the network")
    full = tracing.to_onnx(network)

    def made(name: str, quantization: Quantization | None) -> bytes:
        model = _make(full, name, quantization)
        describe(model, name, scale, digest)
        return bytes(model.SerializeToString())

    def passes(quantization: Quantization) -> bool:
        return all(judge.passes(name, made(name, quantization)) for name in DIALECTS)

    quantization = source if isinstance(source, Quantization) else None
    if quantization and calibration:
        check_quantization(full, quantization, calibration)
        budget_db = quantization.budget_db
    elif budget_db is None:
        budget_db = parity.INT8_LOSSES["expected_loss_db"]
    judge = Judge(network, budget_db)
    if isinstance(source, Pictures):
        study = sensitivity.Study(full, scale, source, budget_db, passes)
        if report_to:
            report.write(study, report_to, checkpoint.stem, digest)
        quantization = study.quantization
    graphs = {name: made(name, quantization) for precision in wanted for name in GRAPHS[precision]}
    entries = [judge.model_file(name, data) for name, data in graphs.items()]
    derived = {
        name: judge.derived(name, entry, graphs[entry.graph])
        for entry in entries
        for name in derived_from(entry.graph)
    }
    for name, result in derived.items():
        if reason := why_failed(result):
            logger.warning("The bundle is without %s, which fails its gates: %s.", name, reason)
    manifest = _manifest(checkpoint, network, quantization, tuple(entries), derived)
    with replaced(output) as temporary:
        temporary.mkdir()
        for entry in entries:
            (temporary / entry.file).write_bytes(graphs[entry.graph])
        (temporary / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return Bundle(output)


def verify_bundle(
    path: Path, checkpoint: Path, config: HFDNConfig | None = None
) -> tuple[ModelFile, ...]:
    """Repeat the parity gates of a bundle against the checkpoint it was made from.

    A derived graph that passed its gates according to the manifest must pass them again.

    Returns:
        The bundle's files with the parity measured now.

    Raises:
        BundleError: the bundle is damaged, was made from another checkpoint, or its calibration
            gives other INT8 graphs.
        GateError: a graph differs too much from the network.
    """
    bundle = Bundle(path, allow_ungated=True)
    network = load_checkpoint(checkpoint, config)
    if bundle.manifest.checkpoint_sha256 != sha256(checkpoint.read_bytes()):
        raise BundleError(f"{path} was not exported from {checkpoint}; name its checkpoint.")
    quantization = bundle.manifest.quantization
    said = bundle.manifest
    manifest = _manifest(checkpoint, network, quantization, said.files, said.derived)
    for field in fields(Manifest):
        claim, truth = (getattr(m, field.name) for m in (said, manifest))
        if claim != truth and field.name != "tools":
            raise BundleError(
                f"{path} says {field.name} {claim}, but it is {truth}; export it again."
            )
    graphs = {entry.graph: bundle.read_model(entry.graph) for entry in bundle.manifest.files}
    judge = Judge(network, quantization.budget_db if quantization else 0.0)
    measured = []
    for entry in said.files:
        data = graphs[entry.graph]
        found = judge.model_file(entry.graph, data)
        if replace(found, parity=entry.parity) != entry or (
            _limits(found.parity) != _limits(entry.parity)
        ):
            raise BundleError(f"{path} describes {entry.file} wrongly; export it again.")
        measured.append(found)
        for name in derived_from(entry.graph):
            claimed, result = said.derived.get(name), judge.derived(name, entry, data)
            if _limits(claimed) != _limits(result):
                raise BundleError(f"{path} describes {name} wrongly; export it again.")
            if not why_failed(claimed) and (reason := why_failed(result)):
                raise GateError(
                    f"{path} says that {name} passed its gates, but {reason}; export it again."
                )
    if quantization:
        full = tracing.to_onnx(network)
        check_quantization(full, quantization, path)
        for entry in measured:
            if entry.graph in DIALECTS:
                made = _make(full, entry.graph, quantization)
                _compare_constants(made, graphs[entry.graph], path / entry.file)
    return tuple(measured)


def _limits(parity: Parity | None) -> dict[str, float] | None:
    return {gate.name: gate.limit for gate in parity.gates} if parity else None


def check_quantization(full: onnx.ModelProto, quantization: Quantization, path: Path) -> None:
    """Raise BundleError if the calibration in the bundle at `path` is not for this fp32 graph."""
    macs = layer_macs(full)
    layers = [name for name in macs if name in quantization.layers]
    tensors = observed_tensors(full, macs)
    share = sum(macs[name] for name in layers) / sum(macs.values())
    if (
        tuple(layers) != quantization.layers
        or set(tensors) != set(quantization.channel_means)
        or not math.isclose(share, quantization.macs_share, rel_tol=1e-9)
        or not channels_fit(full, layers, quantization.channel_means)
        or quantization.ranges.keys() != DIALECTS.keys()
        or not _can_be_made(full, quantization)
    ):
        raise BundleError(f"{path} has a calibration that does not fit its graph; calibrate again.")


def _can_be_made(full: onnx.ModelProto, quantization: Quantization) -> bool:
    try:
        for name in DIALECTS:
            quantize(full, quantization, name)
    except (KeyError, ValueError):  # a tensor without limits, or scales that do not fit
        return False
    return True


def _compare_constants(made: onnx.ModelProto, data: bytes, path: Path) -> None:
    """Raise BundleError if a constant is not the one that the calibration gives."""
    wanted, found = (
        GraphView(model).tensors for model in (made, onnx.load_model_from_string(data))
    )
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise BundleError(
                f"{name} in {path} is not what the calibration gives; export the bundle again."
            )


def _calibration_source(
    scale: int, checkpoint: Path, calibration: Path | None, renewed: bool
) -> Pictures | Quantization:
    """Return images to calibrate on, or the calibration of an earlier bundle.

    Args:
        renewed: a budget or a report was asked for, which only a new calibration has.
    """
    if not calibration or not (calibration / MANIFEST).exists():
        return load_pictures(calibration, scale)
    if renewed:
        raise InputError(
            f"{calibration} has a calibration already; leave out the budget and the report."
        )
    manifest = Bundle(calibration).manifest
    if manifest.quantization is None:
        raise BundleError(
            f"{calibration} has no INT8 graphs whose calibration could be reused; name a folder "
            "of images, or another bundle."
        )
    if manifest.checkpoint_sha256 != sha256(checkpoint.read_bytes()):
        raise BundleError(f"{calibration} was calibrated for another checkpoint; calibrate again.")
    return manifest.quantization


def _make(full: onnx.ModelProto, name: str, quantization: Quantization | None) -> onnx.ModelProto:
    """Return the graph of this name; log the weights that leave the range of fp16."""
    if name == "fp32":
        return full
    if quantization and name in DIALECTS:
        return quantize(full, quantization, name)
    half, losses = to_fp16(full)
    for loss in losses:
        logger.warning(
            "fp16: in %s, %d weights overflow and %d become zero",
            loss.node, loss.overflowed, loss.flushed,
        )  # fmt: skip
    return half


def _refuse_to_replace_other_things(output: Path) -> None:
    """Raise InputError if `output` exists and is anything but a bundle."""
    if not output.exists():
        return
    graphs = set(map(file_name, GRAPH_NAMES))
    present = {path.name for path in output.iterdir()} if output.is_dir() else {output.name}
    # A damaged bundle, or one of another schema, may be replaced: it has graphs.
    if not present <= {MANIFEST, *graphs} or not present & graphs:
        raise InputError(f"{output} exists and is not a bundle; name another directory.")


def _manifest(
    checkpoint: Path,
    network: HFDN,
    quantization: Quantization | None,
    entries: tuple[ModelFile, ...],
    derived: dict[str, Parity],
) -> Manifest:
    return Manifest(
        schema=SCHEMA,
        scale=network.config.scale,
        configuration=network.config.to_dict(),
        **asdict(count_complexity(network, network.config.scale)),
        checkpoint_sha256=sha256(checkpoint.read_bytes()),
        tools={name: version(name) for name in TOOLS},
        quantization=quantization,
        files=entries,
        derived=derived,
    )
