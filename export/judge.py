"""Comparison of a bundle's graphs, and of those derived from them, with the network."""

import hashlib
import logging
from dataclasses import replace
from functools import partial

import numpy as np
import onnx
import torch

from export import parity, tracing
from export.bf16 import emulate_bf16
from export.locate import blame, module_departures, node_departures
from export.sessions import Array, Run, candidate, run_tiled
from hfdn_deploy.backends import OnnxRuntimeBackend
from hfdn_deploy.bundle import DERIVED, ModelFile, Parity, TensorSpec, why_failed
from hfdn_deploy.errors import GateError
from hfdn_deploy.graph import FOR_OPENVINO, GraphView, halo_of, pooled_tensor
from hfdn_deploy.network import HFDN

logger = logging.getLogger(__name__)


def _bf16_around_integers(model: onnx.ModelProto) -> onnx.ModelProto:
    return emulate_bf16(FOR_OPENVINO["int8-openvino-bf16"](model))


# Functions that make ONNX Runtime compute what OpenVINO does, by name in `DERIVED`.
DERIVATIONS = {
    "bf16": emulate_bf16,
    **FOR_OPENVINO,
    "int8-openvino-bf16": _bf16_around_integers,
}


class Judge:
    """Judge of graphs against the network that they were made from."""

    def __init__(self, network: HFDN, budget_db: float) -> None:
        """Take the network, and the loss of PSNR in dB that INT8 may have."""
        self._network = network
        self._scale = network.config.scale
        self._budget_db = budget_db
        self._reference = reference(network)
        self._known: dict[tuple[str, str], Parity] = {}

    def model_file(self, name: str, data: bytes) -> ModelFile:
        """Judge a serialised graph and describe it.

        Raises:
            GateError: the graph failed; the message names the worst case and the node to blame.
        """
        model = onnx.load_model_from_string(data)
        entry = self._entry(name, model, data)
        result = self._compare(name, model, entry)
        self._refuse_failed(name, model, result)
        # Integer arithmetic turns a NaN scale into finite numbers, which hides it.
        constants = GraphView(model).constants
        if spoilt := [key for key, values in constants.items() if not np.isfinite(values).all()]:
            raise GateError(f"the {name} graph has NaN or infinity in {', '.join(spoilt)}.")
        return replace(entry, parity=result)

    def passes(self, name: str, data: bytes) -> bool:
        """Return whether a serialised graph and all that are derived from it pass their gates."""
        model = onnx.load_model_from_string(data)
        entry = self._entry(name, model, data)
        if why_failed(self._compare(name, model, entry)):
            return False
        return not any(why_failed(self.derived(key, entry, data)) for key in derived_from(name))

    def derived(self, name: str, entry: ModelFile, data: bytes) -> Parity:
        """Judge the graph of this name in `DERIVED`, derived from a serialised graph."""
        return self._compare(name, DERIVATIONS[name](onnx.load_model_from_string(data)), entry)

    def _entry(self, name: str, model: onnx.ModelProto, data: bytes) -> ModelFile:
        return ModelFile(
            file=file_name(name),
            graph=name,
            sha256=sha256(data),
            input=TensorSpec.from_onnx(model.graph.input[0]),
            output=TensorSpec.from_onnx(model.graph.output[0]),
            value_range=(0.0, 1.0),
            minimum_size=(1, 1),
            halo=halo_of(model, self._scale),
            pooled=pooled_tensor(model),
            parity=None,
        )

    def _compare(self, name: str, model: onnx.ModelProto, entry: ModelFile) -> Parity:
        """Compare, once, a graph with the network; `entry` has its halo, pooling and file."""
        if (name, entry.sha256) not in self._known:
            logger.info("comparing %s with the network", name)
            limits = parity.GATES[name]
            if name.startswith("int8"):
                limits = {**limits, **dict.fromkeys(parity.INT8_LOSSES, self._budget_db)}
            data = model.SerializeToString()
            backend = OnnxRuntimeBackend(entry.precision, self._scale, data, entry)
            tiled = partial(run_tiled, backend)
            self._known[name, entry.sha256] = parity.compare(
                candidate(model), tiled, self._reference, self._scale, limits
            )
        return self._known[name, entry.sha256]

    def _refuse_failed(self, name: str, model: onnx.ModelProto, result: Parity) -> None:
        failed = [gate.name for gate in result.gates if not gate.value <= gate.limit]
        if failed and all(figure.startswith("tiled") for figure in failed):
            raise GateError(f"the {name} graph gives other results in tiles: {why_failed(result)}.")
        if reason := why_failed(result):
            cases = parity.grid(self._scale)
            lr = next(case.lr for case in cases if case.name == result.worst.name)
            if name == "fp32":
                departures = module_departures(model, self._network, lr)
            else:
                departures = node_departures(model, tracing.to_onnx(self._network), name, lr)
            for node, departure in departures.items():
                logger.debug("%s: off by %.2g", node, departure)
            raise GateError(
                f"the {name} graph departs from PyTorch, most on {result.worst.name!r}: {reason}; "
                f"{blame(departures, name)}."
            )


def derived_from(name: str) -> list[str]:
    """Return the names in `DERIVED` of what is derived from the graph of this name."""
    return [derived for derived, source in DERIVED.items() if source == name]


def reference(network: HFDN) -> Run:
    """Return the PyTorch network as a `cached` function of arrays."""

    def run(lr: Array) -> Array:
        with torch.inference_mode():
            return np.asarray(network(torch.from_numpy(lr)).numpy())

    return parity.cached(run)


def file_name(name: str) -> str:
    """Return the file name of a graph inside its bundle."""
    return f"{name}.onnx"


def sha256(data: bytes) -> str:
    """Return the hash of a file in the form that manifests use."""
    return hashlib.sha256(data).hexdigest()
