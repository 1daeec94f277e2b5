"""OpenVINO on the CPU, in fp32, bf16 and int8."""

import logging
from functools import partial
from threading import Lock
from typing import Any, Self

import numpy as np
import onnx
from numpy.typing import NDArray

from hfdn_deploy.backends.base import Features
from hfdn_deploy.backends.graph_backend import GraphBackend
from hfdn_deploy.backends.openvino_session import Session, core
from hfdn_deploy.backends.probes import eight_bit_products_saturate_in_openvino
from hfdn_deploy.backends.spec import BACKENDS, Obstacle
from hfdn_deploy.bundle import DERIVED, Bundle, graph_for, why_failed
from hfdn_deploy.errors import BackendError
from hfdn_deploy.machine import cores

logger = logging.getLogger(__name__)

# OpenVINO's types of the convolutions, by precision. An integer convolution is recognised by its
# 8-bit input, symmetric or not.
_COMPUTES = {"fp32": ("f32",), "bf16": ("bf16",), "int8": ("u8", "i8")}
# OpenVINO's type of all other operations, by graph; without a hint, OpenVINO may choose bf16.
_HINTS = {
    "fp32": "f32",
    "bf16": "bf16",
    "int8-openvino": "f32",
    "int8-openvino-7bit": "f32",
    "int8-openvino-bf16": "bf16",
}
# `Tiling.memory` by graph and scale; `python -m benchmarks memory --backend openvino` measures it.
_MEMORY = {
    "fp32": {2: 5500, 3: 11200, 4: 19200},
    "bf16": {2: 2900, 3: 5700, 4: 9700},
    "int8-openvino": {2: 3300, 3: 5700, 4: 9100},
    "int8-openvino-7bit": {2: 3300, 3: 5700, 4: 9100},
    "int8-openvino-bf16": {2: 2950, 3: 4700, 4: 7100},
}


def why_not(precision: str) -> Obstacle | None:
    """Return why OpenVINO cannot compute in a precision here; None if it can."""
    if precision not in _COMPUTES:
        known = ", ".join(_COMPUTES)
        return Obstacle(f"openvino runs {known} on a CPU, not {precision}", "choose one of them")
    if precision == "bf16" and not _has_bf16():
        return Obstacle("this CPU has no bf16 instructions", "use precision fp32")
    return None


def _has_bf16() -> bool:
    return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def graph_here(bundle: Bundle, precision: str) -> str:
    """Return the name of the bundle's graph for a precision on this CPU.

    For int8, this is the graph with 7-bit weights where 8-bit products saturate. Otherwise it is
    the graph with bf16 around the integers if the CPU has bf16 and that graph passed its gates.
    """
    graph = graph_for(precision, "openvino")
    if precision != "int8":
        return graph
    if eight_bit_products_saturate_in_openvino():
        logger.info("openvino: 8-bit products saturate on this CPU; int8 uses 7-bit weights")
        return f"{graph}-7bit"
    if not _has_bf16():
        return graph
    shorter = f"{graph}-bf16"
    if reason := why_failed(bundle.manifest.derived.get(shorter)):
        logger.info("openvino: int8 runs with fp32 around it; bf16 failed its gates: %s", reason)
        return graph
    logger.info("openvino: int8 runs with bf16 around it")
    return shorter


class OpenVINOBackend(GraphBackend):
    """The bundle's graph that `graph_here` chooses, compiled once for all sizes on the CPU.

    It runs on the physical cores.

    Raises:
        BundleError: the bundle has no such graph, or its file was changed.
        GateError: the graph did not pass its gates.
        BackendError: OpenVINO refuses the graph, or would compute in another precision.
    """

    name = "openvino"
    forks = True
    # Of two sessions for tiles, or of the buffers that the first image sets up.
    overhead = 24 * 2**20

    def __init__(self, bundle: Bundle, precision: str) -> None:
        if obstacle := why_not(precision):
            raise obstacle.error()
        self._graph = graph = graph_here(bundle, precision)
        self.streams = cores()
        # Held while a request is chosen, so that only one session keeps its memory.
        self._turn = Lock()
        self._last: Session | None = None
        # In fp32 and bf16, a fixed size gains 0 to 9 per cent, less than the noise (measured once).
        self.fixes_sizes = precision == "int8"
        super().__init__(
            precision,
            bundle.manifest.scale,
            bundle.read_model(graph),
            bundle.entry(DERIVED.get(graph, graph)),
        )

    @classmethod
    def why_unavailable(cls) -> Obstacle | None:
        """See `Backend.why_unavailable`."""
        try:
            devices = core().available_devices
        except (ImportError, AttributeError, OSError, RuntimeError) as error:
            reason = f"OpenVINO cannot be imported ({error})"
            return Obstacle(reason, BACKENDS[cls.name].install)
        if "CPU" not in devices:
            reason = "OpenVINO finds no CPU that it can run on"
            return Obstacle(reason, "use backend onnxruntime")
        return None

    @classmethod
    def open(cls, model: Bundle, precision: str) -> Self:
        """See `Backend.open`."""
        return cls(model, precision)

    @property
    def memory(self) -> int:
        """See `Tiling.memory`."""
        return _MEMORY[self._graph][self.scale]

    def open_session(self, data: bytes) -> Session:
        """See `GraphBackend.open_session`."""
        return self._session(data)

    def open_repeated(self, data: bytes) -> Session:
        """See `GraphBackend.open_repeated`."""
        return self._session(data, repeats=True)

    def _session(self, data: bytes, *, repeats: bool = False) -> Session:
        wanted = _convolutions_in(self.precision, onnx.load_model_from_string(data))
        check = partial(_check_precision, wanted=wanted, precision=self.precision)
        return Session(data, _HINTS[self._graph], check, repeats=repeats)

    def prepare(self, height: int, width: int, number: int) -> None:
        """See `Backend.prepare`."""
        if self.fixes_sizes or number > 1:
            with self._turn:
                self.session.fix(((self.entry.input.name, (1, 1, height, width)),), number)

    def trim(self) -> None:
        """See `Backend.trim`."""
        with self._turn:
            if self._last:
                self._last.release()

    def close(self) -> None:
        """See `Backend.close`."""
        self._last = None
        super().close()

    def run_session(
        self, session: Session, lr: NDArray[np.float32], others: Features | None = None
    ) -> list[NDArray[Any]]:
        """See `GraphBackend.run_session`."""
        feeds = {self.entry.input.name: lr, **(others or {})}
        try:
            with self._turn:
                if self._last and self._last is not session:
                    self._last.release()
                self._last = session
                requests = session.requests(feeds)
                request = requests.take()
            try:
                return list(request.infer(feeds, share_inputs=True).to_tuple())
            finally:
                requests.give_back(request)
        except RuntimeError as error:
            height, width = lr.shape[2:]
            raise BackendError(
                f"OpenVINO failed on an input of {width}×{height}: {error}"
            ) from error


def _convolutions_in(precision: str, model: onnx.ModelProto) -> int:
    """Return how many convolutions of a graph should compute in a precision."""
    convolutions = [n for n in model.graph.node if n.op_type in ("Conv", "ConvTranspose")]
    if precision != "int8":
        return len(convolutions)
    behind = {n.output[0] for n in model.graph.node if n.op_type == "DequantizeLinear"}
    return sum(n.input[0] in behind for n in convolutions)


def _check_precision(compiled: Any, wanted: int, precision: str) -> None:
    """Raise BackendError if fewer than `wanted` convolutions compute in this precision."""
    found = computed_in(compiled)
    count = sum(found.get(name, 0) for name in _COMPUTES[precision])
    if count < wanted:
        raise BackendError(
            f"OpenVINO would compute {count} of {wanted} convolutions in {precision} ({found})",
            "use precision fp32 or backend onnxruntime",
        )


def computed_in(compiled: Any) -> dict[str, int]:
    """Return the number of convolutions of a compiled model by OpenVINO's type."""
    counts: dict[str, int] = {}
    for operation in compiled.get_runtime_model().get_ops():
        facts = operation.get_rt_info()
        if facts["layerType"].astype(str) in ("Convolution", "Deconvolution"):
            kind = facts["runtimePrecision"].astype(str)
            counts[kind] = counts.get(kind, 0) + 1
    return counts
