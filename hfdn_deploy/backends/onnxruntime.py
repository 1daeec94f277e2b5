"""ONNX Runtime, on the CPU or through CUDA (package onnxruntime-gpu)."""

from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from hfdn_deploy.bundle import Bundle
from hfdn_deploy.errors import BackendError

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def why_unavailable(device: str) -> str | None:
    """Why ONNX Runtime cannot run on `device` here; None if it can."""
    package = "onnxruntime" if device == "cpu" else "onnxruntime-gpu"
    if find_spec("onnxruntime") is None:
        return f"ONNX Runtime is not installed: pip install {package}"
    import onnxruntime as ort

    if _PROVIDERS[device] not in ort.get_available_providers():
        return f"this ONNX Runtime has no {_PROVIDERS[device]}: install {package} in its place"
    return None


def open_model(model: Bundle, precision: str, device: str) -> "OnnxRuntimeBackend":
    """Open one precision of a bundle on a device ("cpu" or "cuda")."""
    return OnnxRuntimeBackend(model, precision, _PROVIDERS[device])


class OnnxRuntimeBackend:
    """An ONNX Runtime session on exactly one provider.

    Raises:
        BundleError: the bundle has no such precision or its file was changed.
        BackendError: ONNX Runtime refuses the graph or would use another provider.
    """

    def __init__(self, bundle: Bundle, precision: str, provider: str) -> None:
        import onnxruntime as ort

        self.scale = bundle.manifest.scale
        self._entry = bundle.entry(precision)
        data = bundle.read_model(precision)
        options = ort.SessionOptions()
        options.log_severity_level = 3
        try:
            self.session = ort.InferenceSession(data, options, providers=[provider])
        except Exception as error:  # its exceptions share no base class but this
            raise BackendError(
                f"ONNX Runtime {ort.__version__} cannot load {self._entry.file}: {error}"
            ) from error
        used = self.session.get_providers()
        # The GPU build quietly falls back to the CPU where CUDA does not work.
        if used[0] != provider:
            raise BackendError(
                f"ONNX Runtime gave {used[0]} instead of {provider}: CUDA or cuDNN does not "
                "work here; see `hfdn doctor`, or ask for backend onnxruntime."
            )

    def run(self, lr: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Backend.run`."""
        try:
            (sr,) = self.session.run([self._entry.output.name], {self._entry.input.name: lr})
        except Exception as error:
            raise BackendError(
                f"ONNX Runtime failed on an input of {lr.shape[3]}×{lr.shape[2]}: {error}"
            ) from error
        return np.asarray(sr)

    def close(self) -> None:
        """See `Backend.close`."""
        del self.session
