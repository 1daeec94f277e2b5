"""Fast, verified HFDN super-resolution: `Upscaler.load(4)(image)`."""

import os

# Since 1.29 ONNX Runtime's builds for Linux report sessions and models to their maker unless they
# are told not to, before they are imported. Nobody who upscales an image expects that.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# Of `typing`, which the command line would import before it handles signals.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hfdn_deploy.bundle import Bundle
    from hfdn_deploy.errors import (
        BackendError,
        BundleError,
        CheckpointError,
        EngineError,
        GateError,
        HFDNError,
        InputError,
    )
    from hfdn_deploy.upscaler import Upscaler

    __version__: str

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

_PLACES = {"Bundle": "hfdn_deploy.bundle", "Upscaler": "hfdn_deploy.upscaler"}


def __getattr__(name: str) -> "Any":
    """Import a public name when it is asked for: a small module alone should not take long."""
    from importlib import import_module

    if name == "__version__":
        return import_module("importlib.metadata").version("hfdn-deploy")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES.get(name, "hfdn_deploy.errors")), name)
