"""OpenVINO without its telemetry."""

import os
import sys
from functools import cache
from importlib import import_module
from typing import Any

_TELEMETRY = "openvino_telemetry"
# About 35 for each size of the network. By default oneDNN keeps 1,024, which in INT8 are 380 MiB
# after 50 sizes.
_KERNELS = "128"


@cache
def import_openvino() -> Any:
    """Import OpenVINO, which takes a stub of its own where it finds no telemetry.

    With telemetry, the import looks a host up, and writes to the user's home folder. What its
    kernels' library oneDNN keeps of sizes is bounded, unless the environment says otherwise.

    Raises:
        ImportError: OpenVINO is not installed.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", _KERNELS)
    if _TELEMETRY in sys.modules:
        return import_module("openvino")
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        return import_module("openvino")
    finally:
        del sys.modules[_TELEMETRY]
