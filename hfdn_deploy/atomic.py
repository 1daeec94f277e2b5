"""Checks of input and output paths, and atomic writes of files and directories."""

import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from hfdn_deploy.errors import HFDNError, InputError

if sys.platform != "win32":
    import fcntl

WORKPLACE = ".hfdn-"
"""Prefix of the hidden folders in which files are being written."""
_LOCK, _UNLOCKED, _OLD = (f"{WORKPLACE}{name}" for name in ("lock", "unlocked", "old"))
OCCUPIED = "already exists, perhaps from another run; --force overwrites it."
"""Message, after the name of an output that exists and may not be replaced."""
# Larger files are not flushed: a disk writes this many bytes in about a second.
_WAIT_BYTES = 2**26


def check_regular(path: Path, error: type[HFDNError]) -> None:
    """Refuse a pipe, a device or a folder, since reading it might never end.

    A missing or inaccessible path passes; opening it will raise its own error.

    Raises:
        HFDNError: the path exists but is not a regular file; the exception is an `error`.
    """
    with suppress(OSError):
        if path.exists() and not path.is_file():
            raise error(f"{path} cannot be read: it is not a regular file; name one.")


def check_vacant(path: Path, *, overwrite: bool) -> None:
    """Refuse an output that exists, unless it may be replaced.

    Raises:
        InputError: the output exists and `overwrite` is false.
    """
    if not overwrite and os.path.lexists(path):
        raise InputError(f"{path} {OCCUPIED}") from None


def check_writable(path: Path, *, overwrite: bool) -> None:
    """Refuse an output that cannot be written, before it is computed.

    Raises:
        InputError: the output exists and may not be replaced, or its folder or disk cannot be
            written.
    """
    check_vacant(path, overwrite=overwrite)
    folder = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    try:
        with _workplace(folder) as work:
            (work / path.name).write_bytes(b"1")
    except OSError as error:
        raise _refused(path, error) from error


@contextmanager
def replaced(path: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` on success and is removed otherwise.

    The block may write a file or a directory there. The temporary path has the name of `path` and
    lies in a hidden folder beside it, which `remove_abandoned` removes if the process is killed.
    Missing parent folders are created; after a failure, those that are empty are removed.

    Args:
        path: the file or directory to write.
        overwrite: replace an existing file; otherwise refuse one, even if it appeared meanwhile.

    Raises:
        InputError: the disk refuses the write (no space, no permission, a file where a folder
            should be), or `path` exists and may not be replaced.
    """
    folder = path.parent
    made = [parent for parent in (folder, *folder.parents) if not os.path.lexists(parent)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _workplace(folder) as work:
            temporary, old = work / path.name, work / _OLD
            check_vacant(path, overwrite=overwrite)
            try:
                yield temporary
                _flush(temporary)
                if not overwrite:
                    _appear(temporary, path)
                    return
                if temporary.is_dir() and path.is_dir():
                    # No portable system call swaps two directories; with two renames, one of
                    # them is always complete.
                    path.rename(old)
                temporary.replace(path)
            finally:
                with suppress(OSError):
                    if old.exists() and not path.exists():
                        old.rename(path)
    except OSError as error:
        raise _refused(path, error) from error
    finally:
        for parent in made:
            with suppress(OSError):
                parent.rmdir()


def _refused(path: Path, error: OSError) -> InputError:
    reason = error.strerror or error
    return InputError(f"{path} cannot be written: {reason}; choose another place.")


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files that killed processes of this user left in a folder.

    Files that a live process is writing stay, also if it runs on another machine or in a
    container, since it holds a lock. Without locks in the system or on the disk, everything stays.
    """
    if sys.platform == "win32":
        return
    for work in folder.glob(f"{WORKPLACE}*"):
        # A lock that another process holds raises an OSError as well.
        with suppress(OSError):
            # In another user's folder, the lock may be a link to any file.
            if work.is_symlink() or work.stat().st_uid != os.geteuid():
                continue
            with (work / _LOCK).open("r+b") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(work)


@contextmanager
def _workplace(folder: Path) -> Iterator[Path]:
    """Yield a hidden folder that is locked in the block and removed after it."""
    work = folder / f"{WORKPLACE}{uuid.uuid4().hex}"
    with ExitStack() as stack:
        work.mkdir(mode=0o700)
        stack.callback(shutil.rmtree, work, ignore_errors=True)
        if sys.platform != "win32":
            # Renamed once locked, so that no other process finds the lock unlocked.
            lock = stack.enter_context((work / _UNLOCKED).open("wb"))
            with suppress(OSError):  # a disk without locks
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                (work / _UNLOCKED).rename(work / _LOCK)
        yield work


def _flush(path: Path) -> None:
    """Flush a file, or the files of a directory, to disk: some writes fail only then."""
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file() and file.stat().st_size <= _WAIT_BYTES:
            with file.open("r+b") as written:
                os.fsync(written.fileno())


def _appear(temporary: Path, path: Path) -> None:
    """Move a file to its final name, unless that name is taken."""
    try:
        path.hardlink_to(temporary)  # never replaces a file, unlike a rename
    except OSError:
        check_vacant(path, overwrite=False)
        temporary.rename(path)  # for disks without hard links
