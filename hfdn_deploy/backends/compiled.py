"""Graphs as OpenVINO compiled them, kept in the user's cache for the next process.

OpenVINO takes such a file in with no more care than an engine, so it must lie where this user alone
can write. A cache that cannot be used is no failure: the graph is compiled then.
"""

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

from hfdn_deploy.atomic import remove_abandoned, replaced
from hfdn_deploy.engines import OPENVINO, cache_folder, is_own, make_own
from hfdn_deploy.errors import InputError

logger = logging.getLogger(__name__)

# Bytes of all files; the package's graphs have 1.2 to 3.2 MB each.
_MOST = 2**28
_SUFFIX = ".blob"
_DIGEST = hashlib.sha256().digest_size


def load_compiled(core: Any, data: bytes, settings: Mapping[str, Any]) -> Any:
    """Return a graph compiled for the CPU: as it was kept, or else now.

    Args:
        core: OpenVINO's.
        data: the graph in ONNX.
        settings: of OpenVINO, by name.

    Raises:
        RuntimeError: OpenVINO refuses the graph.
    """
    path = _path(core, data, settings)
    if path and (blob := _read(path)):
        with suppress(RuntimeError):  # another build of OpenVINO, or other instructions
            return core.import_model(BytesIO(blob), "CPU", dict(settings))
    found = core.compile_model(core.read_model(data), "CPU", dict(settings))
    if path:
        with suppress(InputError, OSError, RuntimeError):
            _keep(path, found)
    return found


def _path(core: Any, data: bytes, settings: Mapping[str, Any]) -> Path | None:
    """Where a graph is kept; None if there is no cache that nobody else can write."""
    facts = {
        "openvino": core.get_versions("CPU")["CPU"].build_number,
        "cpu": core.get_property("CPU", "FULL_DEVICE_NAME"),
        "capabilities": core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"),
        "settings": dict(settings),
        "graph": hashlib.sha256(data).hexdigest(),
    }
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    with suppress(InputError, OSError):
        return cache_folder() / OPENVINO / f"{key}{_SUFFIX}"
    return None


def _read(path: Path) -> bytes | None:
    """What was kept; None if it is missing, somebody else's or damaged."""
    with suppress(OSError):
        if is_own(path):
            found = path.read_bytes()
            digest, blob = found[:_DIGEST], found[_DIGEST:]
            if hashlib.sha256(blob).digest() == digest:
                with suppress(OSError):
                    os.utime(path)  # the least recently used goes first
                return blob
            logger.info("%s is damaged; the graph is compiled anew", path)
    return None


def _keep(path: Path, graph: Any) -> None:
    """Write a file, and remove those that were used longest ago if all are too large.

    Raises:
        InputError, OSError: the disk refuses, or others can write the folder.
        RuntimeError: OpenVINO does not export on this device.
    """
    make_own(path.parent)
    remove_abandoned(path.parent)
    blob = bytes(graph.export_model().getvalue())
    with replaced(path) as temporary:
        temporary.write_bytes(hashlib.sha256(blob).digest() + blob)
    stats = {file: file.stat() for file in path.parent.glob(f"*{_SUFFIX}")}
    total = sum(stat.st_size for stat in stats.values())
    for file in sorted(stats, key=lambda file: stats[file].st_mtime):
        if total <= _MOST:
            return
        file.unlink(missing_ok=True)
        total -= stats[file].st_size
