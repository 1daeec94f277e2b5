"""The bundle directory: `manifest.json` and an ONNX file for each graph.

The bundle is the contract between `export/`, which writes it, and the runtime, which checks
hashes, schema, paths and external data before it trusts them.
"""

import hashlib
import logging
import os
import re
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from hfdn_deploy.atomic import check_regular
from hfdn_deploy.bundle.manifest import (
    DERIVED,
    GRAPH_NAMES,
    GRAPHS,
    MANIFEST,
    SCHEMA,
    Manifest,
    ModelFile,
    Parity,
    TensorSpec,
    why_failed,
)
from hfdn_deploy.bundle.schema import read_json
from hfdn_deploy.errors import BundleError, GateError, first_line
from hfdn_deploy.graph import FOR_OPENVINO, pooled_tensor

logger = logging.getLogger(__name__)


class Bundle:
    """An opened bundle. Opening reads the manifest; a model's hash is checked on each read.

    Raises:
        BundleError: the directory is not a bundle, has another schema or a damaged manifest, or
            a path leads outside it.
    """

    def __init__(self, path: str | os.PathLike[str], allow_ungated: bool = False) -> None:
        """Open a bundle; with `allow_ungated`, graphs that did not pass their gates can be read."""
        self.path = Path(path)
        self.allow_ungated = allow_ungated
        self.manifest = self._read_manifest()
        for entry in self.manifest.files:
            plain = re.fullmatch(r"\w[\w.-]*", entry.file, re.ASCII)
            if not plain or not self._is_inside(entry.file):
                raise BundleError(
                    f"{self.path}: {entry.file!r} lies outside the bundle; export it again."
                )

    def _is_inside(self, name: str) -> bool:
        # Path.resolve raises RuntimeError if a link leads to itself.
        file, folder = map(os.path.realpath, (self.path / name, self.path))
        return Path(file).parent == Path(folder)

    def _read_manifest(self) -> Manifest:
        path = self.path / MANIFEST
        if self.path.is_file():
            raise BundleError(
                f"{self.path} is a file, not a bundle",
                "name a directory that `python -m export CHECKPOINT -o BUNDLE` wrote",
            )
        try:
            return read_json(path, Manifest, SCHEMA, BundleError, "export it again", _check_sense)
        except OSError as error:
            raise BundleError(
                f"{self.path} is not a bundle: {MANIFEST} cannot be read ({error.strerror}); name "
                "a directory that `python -m export CHECKPOINT -o BUNDLE` wrote."
            ) from None

    def entry(self, graph: str) -> ModelFile:
        """Return the file entry of one graph.

        Raises:
            BundleError: the bundle has no such graph.
        """
        for entry in self.manifest.files:
            if entry.graph == graph:
                return entry
        present = ", ".join(entry.graph for entry in self.manifest.files)
        raise BundleError(f"{self.path} has no {graph} graph, only {present}.")

    def read_model(self, graph: str) -> bytes:
        """Return one graph in ONNX, after checking its gates and its file.

        Args:
            graph: name of a graph in the manifest, or one of `DERIVED`, which has gates of its own.
                "bf16" gives the fp32 graph, as the backend shortens the numbers.

        Raises:
            BundleError: the bundle has no such graph, or its file is missing, changed, damaged, or
                keeps data in another file.
            GateError: the graph did not pass its gates, and ungated graphs are not allowed.
        """
        if graph not in DERIVED:
            entry = self.entry(graph)
            self._check_gates(str(self.path / entry.file), entry.parity)
            return self._read(entry)
        entry = self.entry(DERIVED[graph])
        what = f"{graph}, derived from {self.path / entry.file},"
        self._check_gates(what, self.manifest.derived.get(graph))
        data = self._read(entry)
        if graph == "bf16":
            return data
        derived = FOR_OPENVINO[graph](onnx.load_model_from_string(data))
        return bytes(derived.SerializeToString())

    def _check_gates(self, what: str, parity: Parity | None) -> None:
        if reason := why_failed(parity):
            if not self.allow_ungated:
                raise GateError(
                    f"{what} did not pass its gates: {reason}",
                    "use another precision, or allow ungated graphs",
                )
            logger.warning(
                "%s did not pass its gates: %s; it is used, as ungated graphs are allowed.",
                what, reason,
            )  # fmt: skip

    def _read(self, entry: ModelFile) -> bytes:
        """Return the content of a file of the bundle, after checking it."""
        path = self.path / entry.file
        check_regular(path, BundleError)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise BundleError(
                f"{path} cannot be read ({error.strerror}); copy the whole bundle again."
            ) from None
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise BundleError(
                f"{path} is not the file that was exported (its SHA-256 differs from the "
                "manifest's); copy or export the bundle again."
            )
        try:
            model = onnx.load_model_from_string(data)
        except DecodeError:
            raise BundleError(f"{path} is not an ONNX file; export the bundle again.") from None
        if external := external_tensors(model.graph):
            raise BundleError(
                f"{path} keeps {external[0]} in another file; export the bundle again, in one file."
            )
        try:
            _check_graph(data, model)
        except Exception as error:  # the checker's errors share no other base class
            raise BundleError(
                f"{path} is not a valid ONNX graph ({first_line(error)}); export the bundle again."
            ) from None
        try:
            specs = [TensorSpec.from_onnx(v) for v in (*model.graph.input, *model.graph.output)]
        except KeyError:  # a type that ONNX does not know
            specs = []
        if specs != [entry.input, entry.output]:
            raise BundleError(
                f"{path} has other inputs and outputs than the manifest says; export it again."
            )
        if pooled_tensor(model) != entry.pooled:
            raise BundleError(f"{path} pools differently than the manifest says; export it again.")
        return data


def _check_sense(manifest: Manifest) -> None:
    """Raise ValueError if a well-formed manifest cannot be true."""
    if manifest.scale not in (2, 3, 4):
        raise ValueError(f"scale is {manifest.scale}")
    if (scale := manifest.configuration.get("scale")) != manifest.scale:
        raise ValueError(f"scale is {manifest.scale} for a network of scale {scale}")
    if not manifest.files:
        raise ValueError("files is empty")
    for names in (
        [entry.file for entry in manifest.files],
        [entry.graph for entry in manifest.files],
    ):
        if len(set(names)) < len(names):
            raise ValueError(f"files has {max(names, key=names.count)!r} twice")
    int8 = any(entry.graph in GRAPHS["int8"] for entry in manifest.files)
    if int8 != (manifest.quantization is not None):
        raise ValueError("quantization does not fit the files")
    for name in manifest.derived:
        if name not in DERIVED:
            raise ValueError(f"derived has {name!r}")
    for entry in manifest.files:
        for tensor in (entry.input, entry.output):
            if len(tensor.shape) != 4:
                raise ValueError(f"the shape of {tensor.name!r} is {tensor.shape}")
        if entry.graph not in GRAPH_NAMES:
            raise ValueError(f"graph is {entry.graph!r}")
        if entry.halo < 0:
            raise ValueError(f"halo is {entry.halo}")


def _check_graph(data: bytes, model: onnx.ModelProto) -> None:
    """Raise an exception if a graph lacks properties that code reading its nodes relies on.

    Operators must be standard and have their required inputs and outputs, and names must be UTF-8
    (protobuf gives bytes for other names).
    """
    onnx.checker.check_model(data, check_custom_domain=True)
    graph = model.graph
    names = [model.producer_name, graph.name]
    for node in graph.node:
        names += [*node.input, *node.output]
    if not all(isinstance(name, str) for name in names):
        raise ValueError("a name in it is not UTF-8")


def external_tensors(graph: onnx.GraphProto) -> list[str]:
    """Return the names of tensors, in nested graphs too, whose data lies outside the ONNX file."""
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
