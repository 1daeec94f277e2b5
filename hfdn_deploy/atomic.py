"""Files: refusing what cannot be read, and writing that leaves either the whole or nothing."""

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
"""How the name of a hidden folder begins in which something is being written."""
_LOCK, _UNLOCKED, _OLD = (f"{WORKPLACE}{name}" for name in ("lock", "unlocked", "old"))
OCCUPIED = "is there already, perhaps from another run; --force overwrites it."
"""What is wrong with an output that may not be replaced, behind its name."""
# A disk takes so many bytes in about a second.
_WAIT_BYTES = 2**26


def check_regular(path: Path, error: type[HFDNError]) -> None:
    """Refuse a pipe, a device or a folder: reading it might never end.

    Raises:
        HFDNError: an `error`; what is missing or not accessible is for whoever opens it.
    """
    with suppress(OSError):
        if path.exists() and not path.is_file():
            raise error(f"{path} cannot be read: it is no regular file; name one.")


def check_vacant(path: Path, *, overwrite: bool) -> None:
    """Refuse an output that is there, unless it may be replaced.

    Raises:
        InputError: it is there.
    """
    if not overwrite and os.path.lexists(path):
        raise InputError(f"{path} {OCCUPIED}") from None


def check_writable(path: Path, *, overwrite: bool) -> None:
    """Refuse an output that cannot be written, before it is computed.

    Raises:
        InputError: it is there and may not be replaced, or its folder or disk takes no file.
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
    """Yield a temporary path that takes the place of `path` on success and is removed otherwise.

    What is written there may be a file or a directory; it keeps the name of `path`. It lies in a
    hidden folder beside `path`, which `remove_abandoned` removes if the process is killed. Missing
    parent folders are made, and go again after a failure, if they are empty.

    Args:
        path: the file or directory to write.
        overwrite: replace what is there; otherwise refuse a file that appeared meanwhile.

    Raises:
        InputError: the disk refuses (no space, no permission, a file where a folder should be),
            or a file is there that may not be replaced.
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
                    # No system call swaps two directories everywhere; this way one of them is
                    # always whole.
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
    """Remove what this user's processes left in a folder that were killed in `replaced`.

    What a live process writes stays, also if it runs on another machine or in a container: its
    lock tells. Where the system or the disk has no such locks, everything stays.
    """
    if sys.platform == "win32":
        return
    for work in folder.glob(f"{WORKPLACE}*"):
        # An OSError is also what a lock raises that somebody holds.
        with suppress(OSError):
            # In a folder of somebody else's the lock may be a link to any file.
            if work.is_symlink() or work.stat().st_uid != os.geteuid():
                continue
            with (work / _LOCK).open("r+b") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(work)


@contextmanager
def _workplace(folder: Path) -> Iterator[Path]:
    """A hidden folder that is locked in the block, and removed after it."""
    work = folder / f"{WORKPLACE}{uuid.uuid4().hex}"
    with ExitStack() as stack:
        work.mkdir(mode=0o700)
        stack.callback(shutil.rmtree, work, ignore_errors=True)
        if sys.platform != "win32":
            # It gets its name when it is locked, so that nobody finds it unlocked.
            lock = stack.enter_context((work / _UNLOCKED).open("wb"))
            with suppress(OSError):  # a disk without locks
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                (work / _UNLOCKED).rename(work / _LOCK)
        yield work


def _flush(path: Path) -> None:
    """Wait until the disk has a file, or those of a directory: some writes fail only then."""
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file() and file.stat().st_size <= _WAIT_BYTES:
            with file.open("r+b") as written:
                os.fsync(written.fileno())


def _appear(temporary: Path, path: Path) -> None:
    """Give a file its name, unless that is taken."""
    try:
        path.hardlink_to(temporary)  # which never replaces, unlike a rename
    except OSError:
        check_vacant(path, overwrite=False)
        temporary.rename(path)  # on a disk without hard links
