"""Fast, verified HFDN super-resolution: `Upscaler.load(4)(image)`."""

from importlib.metadata import version

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
