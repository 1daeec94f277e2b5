"""Inference engines behind one small protocol, one file each."""

from importlib import import_module
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hfdn_deploy.bundle import Bundle
from hfdn_deploy.errors import BackendError

Model = Bundle | Path
"""What a backend can open: a bundle, or the path of a checkpoint."""


class Backend(Protocol):
    """A network ready to run."""

    name: str
    """As in `NAMES`."""
    scale: int
    """Upscaling factor."""

    def run(self, lr: NDArray[np.float32]) -> NDArray[np.float32]:
        """Upscale luma (N, 1, H, W) in [0, 1] to (N, 1, sH, sW); not clipped."""

    def close(self) -> None:
        """Free what the engine holds; `run` must not be called afterwards."""


# Name to module and device, in the order in which "auto" tries them.
_BACKENDS = {
    "onnxruntime-cuda": ("hfdn_deploy.backends.onnxruntime", "cuda"),
    "onnxruntime": ("hfdn_deploy.backends.onnxruntime", "cpu"),
    "torch": ("hfdn_deploy.backends.torch", "cpu"),
}
NAMES = tuple(_BACKENDS)


def why_unavailable(name: str) -> str | None:
    """Why a backend (one of `NAMES`) cannot run here and what to do about it; None if it can.

    This is tried, not looked up: an installed package can still be broken or lack its device.
    """
    module, device = _BACKENDS[name]
    reason: str | None = import_module(module).why_unavailable(device)
    return reason


def why_unfit(name: str, model: Model) -> str | None:
    """Why a backend, whether or not it can run here, cannot run this model; None if it can."""
    if name == "torch" and isinstance(model, Bundle):
        return "it runs checkpoints, not bundles: name a .safetensors file"
    if name != "torch" and not isinstance(model, Bundle):
        return f"it runs bundles, not checkpoints: python -m export {model} -o BUNDLE"
    return None


def open_backend(name: str, model: Model, precision: str) -> tuple[Backend, str]:
    """Open a model with the backend named, or with the first that fits if that is "auto".

    Returns:
        The backend, and a sentence that says which it is and why.

    Raises:
        BackendError: it is unknown, unavailable or unfit; for "auto", all are.
        BundleError, CheckpointError: the model is not usable.
    """
    if name not in (*NAMES, "auto"):
        raise BackendError(f"no backend {name!r}; choose auto or one of {', '.join(NAMES)}.")
    passed_over: list[str] = []
    for candidate in NAMES if name == "auto" else (name,):
        reason = why_unfit(candidate, model) or why_unavailable(candidate)
        if reason is None:
            module, device = _BACKENDS[candidate]
            backend: Backend = import_module(module).open_model(model, precision, device)
            # Here the facts suffice; the advice behind the colon is for who wanted that backend.
            facts = [text.rpartition(": ")[0] for text in passed_over]
            why = "asked for" if name != "auto" else "; ".join([*facts, "first that fits"])
            return backend, f"{candidate} ({why})"
        passed_over.append(f"not {candidate}: {reason}")
    raise BackendError(f"{'; '.join(passed_over)}.")
