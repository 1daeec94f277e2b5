"""OpenVINO without its telemetry."""

import sys
from functools import cache
from importlib import import_module
from typing import Any

_TELEMETRY = "openvino_telemetry"


@cache
def import_openvino() -> Any:
    """Import OpenVINO, which takes a stub of its own where it finds no telemetry.

    With telemetry, the import looks a host up, and writes to the user's home folder.

    Raises:
        ImportError: OpenVINO is not installed.
    """
    if _TELEMETRY in sys.modules:
        return import_module("openvino")
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        return import_module("openvino")
    finally:
        del sys.modules[_TELEMETRY]
