"""What made the outputs in a folder: a line of JSON for each, in a hidden file beside them."""

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
"""The name of the file."""
# Of a line that is read; ours have a few hundred.
_MOST_BYTES = 2**16

Made = dict[str, Any]
"""What made an output, JSON-ready; see `Making`."""


@dataclass(frozen=True)
class FileFacts:
    """What a listing says about a file."""

    bytes: int
    modified: int
    """Time of the last change in ns."""

    @property
    def microseconds(self) -> int:
        """The same time, as a number that any reader of JSON holds exactly."""
        return self.modified // 1000


@dataclass(frozen=True)
class Entry:
    """One output as it was when it was written."""

    output: str
    """Its name in the folder."""
    bytes: int
    modified: int
    """Time of its last change in µs."""
    input_bytes: int
    """Size of the file that it was made from."""
    made: Made

    def is_of(self, facts: FileFacts) -> bool:
        """Whether a file is still the one that was written."""
        return (self.bytes, self.modified) == (facts.bytes, facts.microseconds)


class Records:
    """The records of folders, each of which is read when it is first needed."""

    def __init__(self) -> None:
        self._read: dict[Path, dict[str, Entry]] = {}

    def entry(self, output: Path) -> Entry | None:
        """The last entry of an output."""
        folder = output.parent
        if folder not in self._read:
            self._read[folder] = read_record(folder)
        return self._read[folder].get(output.name)

    def is_output(self, path: Path) -> bool:
        """Whether a file is an output that nobody has changed."""
        entry, facts = self.entry(path), file_facts(path)
        return entry is not None and facts is not None and entry.is_of(facts)


def file_facts(path: Path) -> FileFacts | None:
    """Those of a file on a disk; None if it is missing or cannot be looked at."""
    with suppress(OSError):
        status = path.stat()
        return FileFacts(status.st_size, status.st_mtime_ns)
    return None


def read_record(folder: Path) -> dict[str, Entry]:
    """The entries of a folder by output; lines that are torn or of something else are passed over.

    They say what a folder's owner wants them to say: nothing but what is upscaled anew depends on
    them.
    """
    entries: dict[str, Entry] = {}
    with suppress(OSError), open(_open(folder, os.O_RDONLY), "rb") as file:
        while line := file.readline(_MOST_BYTES):
            with suppress(ValueError, RecursionError):
                entry = from_json(Entry, json.loads(line))
                entries[entry.output] = entry
    return entries


def record_output(source: Path, target: Path, made: Made) -> None:
    """Append what made an output that is there, at its end; a warning says if none can be."""
    before, after = file_facts(source), file_facts(target)
    if before is None or after is None:
        return  # somebody has taken it away already
    entry = Entry(target.name, after.bytes, after.microseconds, before.bytes, made)
    # The line break comes first, so that a line that a killed run left torn spoils no other, and
    # each line is one write, so that those of two runs do not mix.
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
    """Warn once for a folder, whose outputs are many."""
    logger.warning(
        "%s: --resume will not know its outputs, as %s cannot be written: %s",
        folder, RECORD, reason,
    )  # fmt: skip


def _open(folder: Path, flags: int) -> int:
    """Open the record, but no link or pipe that somebody put in its place."""
    flags |= (
        getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    )
    descriptor = os.open(folder / RECORD, flags, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError(0, "it is not a regular file")
    return descriptor
