"""The record of a folder: a line of JSON for each output, in a hidden file beside them."""

import json
import logging
import os
import stat
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hfdn_deploy.bundle import from_json

logger = logging.getLogger(__name__)

RECORD = ".hfdn.jsonl"
"""The name of the hidden file."""
# The limit of a line that is read; ours have a few hundred bytes.
_MOST_BYTES = 2**16

Made = dict[str, Any]
"""The facts that an output depends on, JSON-ready; see `Making`."""


@dataclass(frozen=True)
class FileFacts:
    """Size and time of a file, as a listing gives them."""

    bytes: int
    modified: int
    """Time of the last change, in ns."""

    @property
    def microseconds(self) -> int:
        """The same time in µs, which any reader of JSON holds exactly."""
        return self.modified // 1000


@dataclass(frozen=True)
class Entry:
    """An output at the time when it was written."""

    output: str
    """Its name in the folder."""
    bytes: int
    modified: int
    """Time of its last change, in µs."""
    input_bytes: int
    """Size of its input."""
    made: Made

    def is_of(self, facts: FileFacts) -> bool:
        """Return whether the output is unchanged since it was written."""
        return (self.bytes, self.modified) == (facts.bytes, facts.microseconds)


class Records:
    """The records of folders, each read when first needed."""

    def __init__(self) -> None:
        self._read: dict[Path, dict[str, Entry]] = {}

    def entry(self, output: Path) -> Entry | None:
        """Return the last entry of an output, or None."""
        folder = output.parent
        if folder not in self._read:
            self._read[folder] = read_record(folder)
        return self._read[folder].get(output.name)

    def is_output(self, path: Path) -> bool:
        """Return whether a file is an output, unchanged since it was written."""
        entry, facts = self.entry(path), file_facts(path)
        return entry is not None and facts is not None and entry.is_of(facts)


def file_facts(path: Path) -> FileFacts | None:
    """Return the facts of a file; None if it is missing or not accessible."""
    with suppress(OSError):
        status = path.stat()
        return FileFacts(status.st_size, status.st_mtime_ns)
    return None


def read_record(folder: Path) -> dict[str, Entry]:
    """Return the entries of a folder by output, skipping damaged and foreign lines.

    Anyone who may write to the folder can forge entries, so only skipping files depends on them.
    """
    entries: dict[str, Entry] = {}
    with suppress(OSError), open(_open(folder, os.O_RDONLY), "rb") as file:
        while line := file.readline(_MOST_BYTES):
            with suppress(ValueError, RecursionError):
                entry = from_json(Entry, json.loads(line))
                entries[entry.output] = entry
    return entries


def record_output(source: Path, target: Path, made: Made) -> None:
    """Append the entry of an existing output to the record; log a warning if that fails."""
    before, after = file_facts(source), file_facts(target)
    if before is None or after is None:
        return  # the input or the output is gone already
    entry = Entry(target.name, after.bytes, after.microseconds, before.bytes, made)
    # The line break comes first in case a killed run left half a line, and each line is one write
    # so that two runs do not mix theirs.
    line = f"\n{json.dumps(asdict(entry))}".encode()
    try:
        descriptor = _open(target.parent, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)
    except OSError as error:
        _mention_unknown(target.parent, error.strerror or str(error))


@cache
def _mention_unknown(folder: Path, reason: str) -> None:
    """Warn once per folder, not for each output."""
    logger.warning(
        "%s: --resume will not know these outputs because %s cannot be written: %s",
        folder, RECORD, reason,
    )  # fmt: skip


def _open(folder: Path, flags: int) -> int:
    """Open the record, but not a link or pipe in its place."""
    flags |= (
        getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    )
    descriptor = os.open(folder / RECORD, flags, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError(0, "it is not a regular file")
    return descriptor
