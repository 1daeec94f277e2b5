"""The two things the exporter does: make a bundle, and verify one."""

import hashlib
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import onnx

from export import graph, parity
from hfdn_deploy.bundle import MANIFEST, SCHEMA, Bundle, Manifest, ModelFile, TensorSpec
from hfdn_deploy.errors import BundleError, GateError, InputError
from hfdn_deploy.files import replaced
from hfdn_deploy.network.checkpoints import load_checkpoint
from hfdn_deploy.network.complexity import count
from hfdn_deploy.network.hfdn import HFDN

TOOLS = ("hfdn-deploy", "torch", "onnx", "onnxscript", "onnxruntime", "numpy")


def export_bundle(checkpoint: Path, output: Path, locate: bool = False) -> Bundle:
    """Export a checkpoint to a bundle directory, which appears only if every gate passed.

    Args:
        checkpoint: a `.safetensors` file.
        output: the bundle's directory; an older bundle there is replaced.
        locate: on a failed parity, name the first node that departs.

    Raises:
        CheckpointError: the checkpoint is not usable.
        InputError: `output` exists and is no bundle, or cannot be written.
        GateError: a graph is not equal enough to the network.
    """
    if output.exists() and not (output / MANIFEST).is_file():
        raise InputError(f"{output} exists and is no bundle; name another directory.")
    network = load_checkpoint(checkpoint)
    model = graph.to_onnx(network)
    entry = _model_file("fp32.onnx", "fp32", model, network, locate)
    complexity = count(network, network.config.scale)
    manifest = Manifest(
        schema=SCHEMA,
        scale=network.config.scale,
        configuration=network.config.to_dict(),
        **asdict(complexity),
        checkpoint_sha256=_sha256(checkpoint.read_bytes()),
        tools={name: version(name) for name in TOOLS},
        files=(entry,),
    )
    with replaced(output) as temporary:
        temporary.mkdir(parents=True)
        (temporary / entry.file).write_bytes(model.SerializeToString())
        (temporary / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return Bundle(output)


def verify_bundle(path: Path, checkpoint: Path, locate: bool = False) -> tuple[ModelFile, ...]:
    """Repeat the parity gates of a bundle against the checkpoint it was made from.

    Returns:
        The bundle's files with the parity measured now.

    Raises:
        BundleError: the bundle is damaged, or was made from another checkpoint.
        GateError: a graph is not equal enough to the network.
    """
    bundle = Bundle(path)
    network = load_checkpoint(checkpoint)
    if bundle.manifest.checkpoint_sha256 != _sha256(checkpoint.read_bytes()):
        raise BundleError(f"{path} was not exported from {checkpoint}; name its own checkpoint.")
    return tuple(
        _model_file(
            entry.file,
            entry.precision,
            onnx.load_model_from_string(bundle.read_model(entry.precision)),
            network,
            locate,
        )
        for entry in bundle.manifest.files
    )


def _model_file(
    file: str, precision: str, model: onnx.ModelProto, network: HFDN, locate: bool
) -> ModelFile:
    """Judge a graph and describe it.

    Raises:
        GateError: it failed; the message names the worst case and, with `locate`, the node.
    """
    scale = network.config.scale
    result = parity.compare(parity.candidate(model), parity.reference(network), scale, precision)
    worst = result.worst
    if not result.passed:
        where = "add --locate to see where"
        if locate:
            where = f"first departing node: {parity.locate(model, network, worst.name)}"
        raise GateError(
            f"the {precision} graph departs from PyTorch by {worst.max_abs:.3g} on "
            f"{worst.name!r}, where {result.max_abs_limit:g} is allowed; {where}."
        )
    return ModelFile(
        file=file,
        precision=precision,
        sha256=_sha256(model.SerializeToString()),
        input=_tensor(model.graph.input[0]),
        output=_tensor(model.graph.output[0]),
        value_range=(0.0, 1.0),
        minimum_size=(1, 1),
        halo=graph.halo(model, scale),
        pools_globally=any(map(graph.is_global_pool, model.graph.node)),
        parity=result,
    )


def _tensor(value: onnx.ValueInfoProto) -> TensorSpec:
    kind = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
    return TensorSpec(value.name, dtype, tuple(d.dim_param or d.dim_value for d in kind.shape.dim))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
