"""Fast, verified HFDN super-resolution: `Upscaler.load(4)(image)`."""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# Since 1.29 ONNX Runtime's builds for Linux report sessions and models to their maker unless they
# are told not to, before they are imported. Nobody who upscales a picture expects that.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from hfdn_deploy.errors import (
    BackendError,
    BundleError,
    CheckpointError,
    EngineError,
    GateError,
    HFDNError,
    InputError,
)

if TYPE_CHECKING:
    from hfdn_deploy.bundle import Bundle
    from hfdn_deploy.upscaler import Upscaler

    __version__: str

# Imported when they are asked for: whoever wants a small module alone does not wait.
_LATER = {"Bundle": "hfdn_deploy.bundle", "Upscaler": "hfdn_deploy.upscaler"}

__all__ = [
    "BackendError",
    "Bundle",
    "BundleError",
    "CheckpointError",
    "EngineError",
    "GateError",
    "HFDNError",
    "InputError",
    "Upscaler",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("hfdn-deploy")
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)
