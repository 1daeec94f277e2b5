"""Fast, verified HFDN super-resolution: `Upscaler.load(4)(image)`."""

import os

# Since 1.29, ONNX Runtime's Linux builds send data on sessions and models to Microsoft unless this
# is set before the import. Users of an upscaler do not expect that.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# Stands in for `typing.TYPE_CHECKING`: the command line handles signals before it imports more.
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
    """Import a public name on first use, so that importing a small module stays fast."""
    from importlib import import_module

    if name == "__version__":
        return import_module("importlib.metadata").version("hfdn-deploy")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES.get(name, "hfdn_deploy.errors")), name)
