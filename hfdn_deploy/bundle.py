"""The bundle directory: `manifest.json` and one ONNX file per precision.

The bundle is the contract between `export/`, which writes it, and the runtime, which trusts
nothing in it that it has not checked: hashes, schema, paths, external data.
"""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files as package_files
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from hfdn_deploy.errors import BundleError
from hfdn_deploy.schema import from_json

MANIFEST = "manifest.json"
PRECISIONS = ("fp32", "fp16")
SCHEMA = 1


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a graph."""

    name: str
    dtype: str
    """NumPy's name, such as "float32"."""
    shape: tuple[int | str, ...]
    """N, C, H, W; a name stands for a size that may vary."""

    @classmethod
    def from_onnx(cls, value: onnx.ValueInfoProto) -> "TensorSpec":
        """Describe an input or output of an ONNX graph."""
        kind = value.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
        return cls(value.name, dtype, tuple(d.dim_param or d.dim_value for d in kind.shape.dim))


@dataclass(frozen=True)
class ParityCase:
    """How far one output lies from the PyTorch reference."""

    name: str
    shape: tuple[int, ...]
    """Shape of the input, (N, 1, H, W)."""
    max_abs: float
    """Largest absolute difference, on the scale 0..1."""
    mean_abs: float
    psnr_db: float | None
    """PSNR between the two outputs in luma levels (peak 255); None where they are equal."""


@dataclass(frozen=True)
class Gate:
    """A figure that had to stay within a limit."""

    name: str
    value: float
    limit: float


@dataclass(frozen=True)
class Parity:
    """The comparison with the PyTorch reference that let a file into its bundle."""

    passed: bool
    gates: tuple[Gate, ...]
    """What the precision was held to; `export.parity.GATES` says what each means."""
    photographs_sha256: str
    """Hash of the originals that PSNR was measured on."""
    worst: ParityCase
    cases: tuple[ParityCase, ...]


@dataclass(frozen=True)
class ModelFile:
    """One ONNX file of a bundle."""

    file: str
    """Plain name inside the bundle's directory."""
    precision: str
    sha256: str
    input: TensorSpec
    output: TensorSpec
    value_range: tuple[float, float]
    """Range of input and output values; black and white of the 8-bit scale."""
    minimum_size: tuple[int, int]
    """Smallest height and width of the input."""
    halo: int
    """Input pixels around an output pixel's own that can change it (pooling aside)."""
    pools_globally: bool
    """Whether every output pixel also depends on a mean over the whole input."""
    parity: Parity


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` says of a bundle."""

    schema: int
    scale: int
    configuration: dict[str, int | str]
    parameters: int
    macs_paper: int
    """Multiply-accumulates in the paper's convention (1080×720 HR, biases counted)."""
    macs_true: int
    """Multiply-accumulates computed for the weights (1280×720 HR)."""
    checkpoint_sha256: str
    tools: dict[str, str]
    """Versions of what made the bundle."""
    files: tuple[ModelFile, ...]

    def to_json(self) -> str:
        """The text of `manifest.json`."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"


class Bundle:
    """An opened bundle. Opening reads the manifest; a model's hash is checked on each read.

    Raises:
        BundleError: no bundle, a newer schema, a damaged manifest or a path that leads outside.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.manifest = self._read_manifest()
        for entry in self.manifest.files:
            plain = re.fullmatch(r"\w[\w.-]*", entry.file, re.ASCII)
            if not plain or (self.path / entry.file).resolve().parent != self.path.resolve():
                raise BundleError(
                    f"{self.path}: {entry.file!r} lies outside the bundle; export it anew."
                )

    def _read_manifest(self) -> Manifest:
        path = self.path / MANIFEST
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise BundleError(
                f"{self.path} is no bundle: {MANIFEST} cannot be read ({error.strerror}); name "
                "a directory that `python -m export` wrote."
            ) from None
        except (ValueError, RecursionError) as error:
            raise BundleError(f"{path} is damaged ({error}); export it anew.") from None
        schema = values.get("schema") if isinstance(values, dict) else None
        if isinstance(schema, int) and schema > SCHEMA:
            raise BundleError(
                f"{self.path} has schema {schema}, this hfdn-deploy reads up to {SCHEMA}: "
                "upgrade hfdn-deploy."
            )
        try:
            manifest = from_json(Manifest, values)
            _check_sense(manifest)
        except ValueError as error:
            raise BundleError(f"{path} is damaged: {error}; export it anew.") from None
        return manifest

    def entry(self, precision: str) -> ModelFile:
        """The file of one precision.

        Raises:
            BundleError: the bundle has no such precision.
        """
        for entry in self.manifest.files:
            if entry.precision == precision:
                return entry
        present = ", ".join(entry.precision for entry in self.manifest.files)
        raise BundleError(f"{self.path} has no {precision} graph, only {present}.")

    def read_model(self, precision: str) -> bytes:
        """The ONNX file of one precision, after its hash and self-containedness were checked.

        Raises:
            BundleError: no such precision, missing, changed, or with data outside the file.
        """
        entry = self.entry(precision)
        path = self.path / entry.file
        try:
            data = path.read_bytes()
        except OSError as error:
            raise BundleError(
                f"{path} cannot be read ({error.strerror}); copy the whole bundle anew."
            ) from None
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise BundleError(
                f"{path} is not the file that was exported (its SHA-256 differs from the "
                "manifest's); copy or export the bundle anew."
            )
        try:
            model = onnx.load_model_from_string(data)
        except DecodeError:
            raise BundleError(f"{path} is no ONNX file; export the bundle anew.") from None
        if external := external_tensors(model.graph):
            raise BundleError(
                f"{path} keeps {external[0]} in another file; export the bundle anew, in one file."
            )
        specs = [TensorSpec.from_onnx(v) for v in (*model.graph.input, *model.graph.output)]
        if specs != [entry.input, entry.output]:
            raise BundleError(
                f"{path} has other inputs and outputs than the manifest says; export it anew."
            )
        return data


def _check_sense(manifest: Manifest) -> None:
    """Raise ValueError where a manifest is well-formed but cannot be true."""
    if manifest.schema != SCHEMA:
        raise ValueError(f"schema is {manifest.schema}")
    if manifest.scale not in (2, 3, 4):
        raise ValueError(f"scale is {manifest.scale}")
    if not manifest.files:
        raise ValueError("files is empty")
    for names in (
        [entry.file for entry in manifest.files],
        [entry.precision for entry in manifest.files],
    ):
        if len(set(names)) < len(names):
            raise ValueError(f"files has {max(names, key=names.count)!r} twice")
    for entry in manifest.files:
        if entry.precision not in PRECISIONS:
            raise ValueError(f"precision is {entry.precision!r}")
        within = all(gate.value <= gate.limit for gate in entry.parity.gates)
        if not (entry.parity.passed and within and entry.parity.gates):
            raise ValueError(f"{entry.file} has failed its parity gate")


def external_tensors(graph: onnx.GraphProto) -> list[str]:
    """Names of the tensors, in nested graphs too, whose data lies outside the ONNX file."""
    tensors = list(graph.initializer)
    nested: list[str] = []
    for node in graph.node:
        for attribute in node.attribute:
            tensors += [attribute.t, *attribute.tensors]
            for subgraph in (attribute.g, *attribute.graphs):
                nested += external_tensors(subgraph)
    for sparse in graph.sparse_initializer:
        tensors += [sparse.values, sparse.indices]
    external = onnx.TensorProto.EXTERNAL
    return [t.name for t in tensors if t.data_location == external or t.external_data] + nested


def pretrained_scales() -> Sequence[int]:
    """The scales whose bundles ship with the package."""
    folder = Path(str(package_files("hfdn_deploy") / "models"))
    return sorted(int(path.parent.name[1:]) for path in folder.glob(f"x[0-9]/{MANIFEST}"))


def pretrained(scale: int) -> Bundle:
    """The bundle for `scale` that ships with the package.

    Raises:
        BundleError: there is none for this scale.
    """
    if scale not in pretrained_scales():
        known = ", ".join(map(str, pretrained_scales()))
        raise BundleError(f"no pretrained bundle for scale {scale}; there is one for {known}.")
    return Bundle(Path(str(package_files("hfdn_deploy") / "models" / f"x{scale}")))
