"""Import of OpenVINO without its telemetry."""

import os
import sys
from functools import cache
from importlib import import_module
from typing import Any

_TELEMETRY = "openvino_telemetry"
# The network takes about 35 kernels for each size. By default oneDNN keeps 1,024, which in int8
# take 380 MiB after 50 sizes.
_KERNELS = "128"


@cache
def import_openvino() -> Any:
    """Import OpenVINO with its telemetry hidden, for which it then uses its own stub.

    With telemetry, the import looks up a host and writes to the user's home folder. The number of
    kernels that oneDNN caches is limited as well, unless the environment sets it.

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
