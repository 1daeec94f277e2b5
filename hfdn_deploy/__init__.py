"""Fast, verified HFDN super-resolution: `Upscaler.load(4)(image)`."""

import os
from importlib.metadata import version

# Since 1.29 ONNX Runtime's builds for Linux report sessions and models to their maker unless they
# are told not to, before they are imported. Nobody who upscales a picture expects that.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

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

__version__ = version("hfdn-deploy")

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
