"""Full disks, and processes that are killed while they write."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hfdn_deploy.files import RECORD


def names_in(folder: Path) -> list[str]:
    """Return the sorted names in a folder, without the record of how outputs were made."""
    return sorted(path.name for path in folder.iterdir() if path.name != RECORD)


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Limit each file that this process writes in the block to `size` bytes.

    As on a full disk, a write that reaches the limit is cut short and the next one fails.
    Python ignores the signal that the limit sends.
    """
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Python keeps compiled modules that were cut short, and cannot read them again.
    keeps_no_bytecode = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        sys.dont_write_bytecode = keeps_no_bytecode


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
    """Run the block while another process is writing a file, then kill that process."""
    command = [sys.executable, "-c", _WRITER, str(path), os.fsdecode(data)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline() == b"writing\n"
        yield
        process.kill()


def abandon(path: Path, data: bytes) -> None:
    """Leave the remains of a process that was killed while it wrote a file."""
    with writing(path, data):
        pass
    assert list(path.parent.glob(".hfdn-*/*")), "the process left nothing"


def sizes_below(whole: int, count: int) -> list[int]:
    """Return about `count` sizes below `whole`, including the smallest and the largest."""
    return sorted({*range(0, whole, max(1, whole // count)), 1, whole - 2, whole - 1})
