"""Disks that fill."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


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


def sizes_below(whole: int, count: int) -> list[int]:
    """Return about `count` sizes below that of a file, the first and the last ones among them."""
    return sorted({*range(0, whole, max(1, whole // count)), 1, whole - 2, whole - 1})
