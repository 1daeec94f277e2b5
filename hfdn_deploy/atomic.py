"""Files: refusing what is none, and writing that leaves either the whole or nothing."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hfdn_deploy.errors import HFDNError, InputError


def check_regular(path: Path, error: type[HFDNError]) -> None:
    """Refuse a pipe, a device or a folder: reading it might never end.

    Raises:
        HFDNError: an `error`; what does not exist is for whoever opens it.
    """
    if path.exists() and not path.is_file():
        raise error(f"{path} cannot be read: it is no regular file; name one.")


@contextmanager
def replaced(path: Path, folder: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path that takes the place of `path` on success and is removed otherwise.

    What is written there may be a file or a directory; it keeps the suffix of `path`. Missing
    parent folders are made, and go again after a failure, if they are empty.

    Args:
        path: the file or directory to write.
        folder: where the temporary path lies, on the disk of `path`; by default beside it.

    Raises:
        InputError: the disk refuses (no space, no permission, a file where a folder should be).
    """
    folder = folder or path.parent
    temporary, old = (folder / f".{uuid.uuid4().hex}{path.suffix}" for _ in range(2))
    made = [parent for parent in temporary.parents if not os.path.lexists(parent)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield temporary
        if temporary.is_dir() and path.is_dir():
            # No system call swaps two directories everywhere; this way one of them is always whole.
            path.rename(old)
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{path} cannot be written: {reason}; choose another place.") from error
    finally:
        with suppress(OSError):
            if old.exists() and not path.exists():
                old.rename(path)
        for rest in (temporary, old):
            with suppress(OSError):
                rest.unlink(missing_ok=True) if not rest.is_dir() else shutil.rmtree(rest)
        for parent in made:
            with suppress(OSError):
                parent.rmdir()
