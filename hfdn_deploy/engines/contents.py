"""Listing and removal of the entries of the engine cache."""

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

OPENVINO = "openvino"
"""Name of the cache's folder for graphs compiled by OpenVINO."""
# Folders beside those of the engines, with their descriptions.
_OTHERS = {
    "timing": "kernel times, for later builds",
    "kernels": "compiled kernels",
    OPENVINO: "graphs compiled by OpenVINO, for the next start",
}


@dataclass(frozen=True)
class CacheEntry:
    """A folder of the cache: an engine, or files that builds and runs keep for later ones."""

    path: Path
    what: str
    """Description of the contents."""
    bytes: int
    changed: datetime
    """Modification time of the newest file."""


def cache_entries() -> Sequence[CacheEntry]:
    """Return the entries of the cache, newest first.

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
    """Yield the folders that this package made; others in the cache are left alone."""
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
    return "an unfinished build"


def remove_entry(entry: CacheEntry) -> bool:
    """Remove an entry and return True; return False if it is being built.

    Raises:
        InputError: the disk refuses the removal.
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
