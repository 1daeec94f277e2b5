"""Disks that fill, and processes that are killed while they write."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hfdn_deploy.files import RECORD


def names_in(folder: Path) -> list[str]:
    """Return the names in a folder, sorted, but for the record of what made the outputs."""
    return sorted(path.name for path in folder.iterdir() if path.name != RECORD)


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Let each file that this process writes in the block end after so many bytes.

    As on a disk that fills, a write that reaches the end is cut off and the next one fails.
    Python ignores the signal that comes with it.
    """
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


_WRITER = """
import os, sys
from pathlib import Path
from hfdn_deploy.atomic import replaced
with replaced(Path(sys.argv[1])) as temporary:
    temporary.write_bytes(os.fsencode(sys.argv[2]))
    print("writing", flush=True)
    sys.stdin.read()
"""


@contextmanager
def writing(path: Path, data: bytes) -> Iterator[None]:
    """Let another process be in the middle of writing a file, until it is killed at the end."""
    command = [sys.executable, "-c", _WRITER, str(path), os.fsdecode(data)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline() == b"writing\n"
        yield
        process.kill()


def abandon(path: Path, data: bytes) -> None:
    """Leave what a process leaves that is killed while it writes a file."""
    with writing(path, data):
        pass
    assert list(path.parent.glob(".hfdn-*/*")), "it left nothing"


def sizes_below(whole: int, count: int) -> list[int]:
    """Return about `count` sizes below that of a file, the first and the last ones among them."""
    return sorted({*range(0, whole, max(1, whole // count)), 1, whole - 2, whole - 1})
