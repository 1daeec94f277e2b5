"""What lies in the cache of engines, and taking it out."""

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from hfdn_deploy.engines.folders import cache_folder
from hfdn_deploy.engines.sidecar import SUFFIX, read_sidecar
from hfdn_deploy.errors import EngineError, InputError

# What lies beside the folders of the engines.
OPENVINO = "openvino"
"""The folder of the graphs that OpenVINO compiled, in the cache."""
_OTHERS = {
    "timing": "times of kernels, for later builds",
    "kernels": "compiled kernels",
    OPENVINO: "graphs that OpenVINO compiled, for the next start",
}


@dataclass(frozen=True)
class CacheEntry:
    """A folder of the cache: an engine, or what builds and runs keep for later ones."""

    path: Path
    what: str
    """What it is for."""
    bytes: int
    changed: datetime
    """When its newest file was written."""


def cache_entries() -> Sequence[CacheEntry]:
    """Return what lies in the cache, the newest first.

    Raises:
        InputError: the cache cannot be read.
    """
    found = []
    try:
        for path in _folders():
            stats = [file.lstat() for file in path.rglob("*") if not file.is_dir()]
            newest = max((stat.st_mtime for stat in stats), default=path.stat().st_mtime)
            changed = datetime.fromtimestamp(newest, UTC)
            size = sum(stat.st_size for stat in stats)
            found.append(CacheEntry(path, _what(path), size, changed))
    except OSError as error:
        raise InputError(f"the cache cannot be read: {error}; check its permissions.") from None
    return sorted(found, key=lambda entry: entry.changed, reverse=True)


def _folders() -> Iterator[Path]:
    """What was made here; anything else that is in the folder is somebody's own."""
    with suppress(FileNotFoundError):
        for path in cache_folder().iterdir():
            if path.name in _OTHERS or re.fullmatch("[0-9a-f]{64}", path.name):
                yield path


def _what(path: Path) -> str:
    if path.name in _OTHERS:
        return _OTHERS[path.name]
    for engine in path.glob(f"engine/*{SUFFIX}"):
        try:
            manifest = read_sidecar(engine)
        except EngineError:
            return "a damaged engine"
        part = "" if manifest.part == "whole" else f", {manifest.part} part"
        return f"{manifest.bundle}, {manifest.precision}{part}, {manifest.made}"
    return "a build that did not end"


def remove_entry(entry: CacheEntry) -> bool:
    """Remove an entry; returns False if it is being built.

    Raises:
        InputError: the disk refuses.
    """
    lock = FileLock(entry.path / "lock")
    try:
        if entry.path.name not in _OTHERS:
            lock.acquire(blocking=False)
        shutil.rmtree(entry.path)
    except Timeout:
        return False
    except OSError as error:
        raise InputError(
            f"{entry.path} cannot be removed ({error.strerror}); check its permissions."
        ) from None
    finally:
        lock.release()
    return True
