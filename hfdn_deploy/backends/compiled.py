"""Graphs compiled by OpenVINO, kept in the user's cache for the next process.

OpenVINO does not validate such a file any more than TensorRT validates an engine, so it must lie
where only this user can write. If the cache cannot be used, the graph is compiled.
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

# Most bytes of all files together; the package's graphs take 1.2 to 3.2 MB each.
_MOST = 2**28
_SUFFIX = ".blob"
_DIGEST = hashlib.sha256().digest_size


def load_compiled(core: Any, data: bytes, settings: Mapping[str, Any]) -> Any:
    """Return a graph compiled for the CPU, from the cache if it is there.

    Args:
        core: the `openvino.Core`.
        data: the graph in ONNX.
        settings: OpenVINO's properties, by name.

    Raises:
        RuntimeError: OpenVINO refuses the graph.
    """
    path = _path(core, data, settings)
    if path and (blob := _read(path)):
        with suppress(RuntimeError):  # from another build of OpenVINO or for other instructions
            return core.import_model(BytesIO(blob), "CPU", dict(settings))
    found = core.compile_model(core.read_model(data), "CPU", dict(settings))
    if path:
        with suppress(InputError, OSError, RuntimeError):
            _keep(path, found)
    return found


def _path(core: Any, data: bytes, settings: Mapping[str, Any]) -> Path | None:
    """Return the cache file of a graph; None if other users can write the cache."""
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
    """Return the cached blob; None if it is missing, damaged or not this user's own."""
    with suppress(OSError):
        if is_own(path):
            found = path.read_bytes()
            digest, blob = found[:_DIGEST], found[_DIGEST:]
            if hashlib.sha256(blob).digest() == digest:
                with suppress(OSError):
                    os.utime(path)  # marks it as used, for `_keep`
                return blob
            logger.info("%s is damaged; the graph is compiled again", path)
    return None


def _keep(path: Path, graph: Any) -> None:
    """Write a file, then remove the least recently used ones while all exceed `_MOST` bytes.

    Raises:
        InputError, OSError: the disk refuses the write, or other users can write the folder.
        RuntimeError: OpenVINO cannot export on this device.
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
