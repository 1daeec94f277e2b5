"""Inference engines behind one small protocol, one file each."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hfdn_deploy.bundle import Bundle
from hfdn_deploy.engines import Engine
from hfdn_deploy.errors import BackendError, GateError
from hfdn_deploy.interruption import deferred

Model = Bundle | Engine | Path
"""What a backend can open: a bundle, an engine, or the path of a checkpoint."""


class Backend(Protocol):
    """A network ready to run."""

    name: str
    """As in `NAMES`."""
    scale: int
    """Upscaling factor."""
    precision: str
    """Of the graph that runs."""
    concurrency: int
    """How many calls of `run` from as many threads overlap to some use."""

    def run(self, lr: NDArray[np.float32]) -> NDArray[np.float32]:
        """Upscale luma (N, 1, H, W) in [0, 1] to (N, 1, sH, sW); not clipped."""

    def close(self) -> None:
        """Free what the engine holds; `run` must not be called afterwards."""


Features = Mapping[str, NDArray[Any]]
"""What a part of a network computed for another, (N, C, H, W) by name, in types of its own."""


class SplitNetwork(Protocol):
    """A network in two, so that no tile's way to the pooled mean is gone twice."""

    @property
    def halo(self) -> int:
        """Low-resolution pixels of features around an output pixel's own that can change it."""

    @property
    def memory(self) -> int:
        """Bytes of features for each low-resolution pixel."""

    def trunk(
        self, lr: NDArray[np.float32], inside: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], Features]:
        """As `TilingBackend.pooled_sums`, with the features that the heads start from."""

    def heads(
        self, lr: NDArray[np.float32], features: Features, pooled: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """As `TilingBackend.run_tile`, from the features of these very pixels."""


@runtime_checkable
class TilingBackend(Backend, Protocol):
    """A backend that runs parts of a picture, too; `hfdn_deploy.tiling` joins them."""

    halo: int
    """Low-resolution pixels around an output pixel's own that can change it, pooling aside."""
    pools: bool
    """Whether every output pixel also depends on a mean over the whole picture."""
    memory: int | None
    """Bytes at the peak for each low-resolution pixel of one input, of all that is run for it.

    Measured; None where nobody has.
    """
    overhead: int
    """Bytes that it takes whatever the size."""
    largest: int | None
    """The longest side of an input that it takes, halo and all; None if memory alone decides."""
    split: SplitNetwork | None
    """The same network in two; None if nobody has cut it, or there is no pooling to cut it at."""

    def pooled_sums(
        self, lr: NDArray[np.float32], inside: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Sums (N, C, 1, 1) of what is pooled, over the pixels where `inside` is 1.

        Args:
            lr: luma (N, 1, H, W) in [0, 1].
            inside: (N, 1, H, W), 1 for a pixel that counts and 0 for one that does not.
        """

    def run_tile(
        self, lr: NDArray[np.float32], pooled: NDArray[np.float32] | None
    ) -> NDArray[np.float32]:
        """As `run`, with the mean (N, C, 1, 1) over the whole picture; None if nothing pools."""


@runtime_checkable
class ClockedBackend(Backend, Protocol):
    """A backend on a device that has a clock of its own."""

    def seconds(self) -> float:
        """What the last `run` computed for, without transfers, by that clock; for one thread."""


_MODULES = {
    "tensorrt": "hfdn_deploy.backends.tensorrt",
    "rtx-ep": "hfdn_deploy.backends.onnxruntime",
    "cuda": "hfdn_deploy.backends.onnxruntime",
    "openvino": "hfdn_deploy.backends.openvino",
    "onnxruntime": "hfdn_deploy.backends.onnxruntime",
    "torch": "hfdn_deploy.backends.torch",
}
NAMES = tuple(_MODULES)

# In which order "auto" tries on a CPU. Time of OpenVINO as a share of ONNX Runtime's for ×2, ×3, ×4
# (benchmarks/results/2026-11-23-amd-epyc-2-cores.md): fp32 0.88, 0.90, 0.89; int8 0.59, 0.65, 0.59.
FASTEST_ON_CPU = {
    "fp32": ("openvino", "onnxruntime"),
    "fp16": ("onnxruntime",),
    "bf16": ("openvino",),
    "int8": ("openvino", "onnxruntime"),
}


def why_unavailable(name: str) -> str | None:
    """Why a backend (one of `NAMES`) cannot run here and what to do about it; None if it can.

    This is tried, not looked up: an installed package can still be broken or lack its device.
    """
    with deferred():
        reason: str | None = import_module(_MODULES[name]).why_unavailable(name)
    return reason


def why_unfit(name: str, model: Model) -> str | None:
    """Why a backend, whether or not it can run here, cannot run this model; None if it can."""
    if isinstance(model, Engine):
        return None if name == "tensorrt" else "it does not run engines: use backend tensorrt"
    if name == "torch" and isinstance(model, Bundle):
        return "it runs checkpoints, not bundles: name a .safetensors file"
    if name != "torch" and not isinstance(model, Bundle):
        return f"it runs bundles, not checkpoints: python -m export {model} -o BUNDLE"
    return None


def open_backend(name: str, model: Model, precision: str) -> tuple[Backend, str]:
    """Open a model with the backend named, or with the fastest that can run it if that is "auto".

    Returns:
        The backend, and a sentence that says which it is and why.

    Raises:
        BackendError: it is unknown, unavailable or unfit; for "auto", all are.
        BundleError, CheckpointError, EngineError: the model is not usable.
        GateError: its graph did not pass its gates; for "auto", that of the last backend tried.
    """
    if name not in (*NAMES, "auto"):
        raise BackendError(f"no backend {name!r}; choose auto or one of {', '.join(NAMES)}.")
    passed_over: list[str] = []
    failure: BackendError | GateError | None = None
    for candidate in _automatic(model, precision) if name == "auto" else (name,):
        reason = why_unfit(candidate, model) or why_unavailable(candidate)
        if reason is None:
            try:
                backend = _open(candidate, model, precision)
            except (BackendError, GateError) as error:
                failure, reason = error, str(error)
            else:
                # Here the facts suffice; the advice behind the colon is for who wanted that one.
                facts = [text.rpartition(": ")[0] for text in passed_over]
                why = "asked for" if name != "auto" else "; ".join([*facts, _merit(candidate)])
                return backend, f"{candidate} ({why})"
        passed_over.append(f"not {candidate}: {reason}")
    raise failure or BackendError(f"{'; '.join(passed_over)}.")


def _automatic(model: Model, precision: str) -> tuple[str, ...]:
    """The backends that "auto" tries, in order.

    On a GPU that is `cuda`: an engine would first have to be built, and which of the three is the
    fastest is not yet measured, so the other two are for who asks for them.
    """
    if isinstance(model, Engine):
        return ("tensorrt",)
    on_gpu = () if precision == "bf16" else ("cuda",)
    return (*on_gpu, *FASTEST_ON_CPU[precision], "torch")


def _merit(candidate: str) -> str:
    """Why "auto" takes this one rather than those behind it."""
    measured = any(candidate in names for names in FASTEST_ON_CPU.values())
    return "the fastest measured of those left" if measured else "first that fits"


def _open(name: str, model: Model, precision: str) -> Backend:
    backend: Backend = import_module(_MODULES[name]).open_model(model, precision, name)
    return backend
