"""Location of the engine cache, and checks that no other user can write there.

Engines are native code, and engines in a user's cache run without further confirmation.
"""

import logging
import os
from functools import cache
from pathlib import Path

from platformdirs import user_cache_path

from hfdn_deploy.errors import InputError

logger = logging.getLogger(__name__)

VARIABLE = "HFDN_CACHE"


def cache_folder() -> Path:
    """Return the folder of the engines, in `$HFDN_CACHE` or in the user's cache of the system.

    If other users own or can write `$HFDN_CACHE`, the latter is used, with a warning.

    Raises:
        InputError: other users own or can write both, or `$HFDN_CACHE` names the home of an
            unknown user.
    """
    named = os.environ.get(VARIABLE)
    own = user_cache_path("hfdn-deploy") / "engines"
    if named:
        try:
            # With `docker -e` or in a file, no shell expands the tilde.
            folder = Path(os.path.realpath(Path(named).expanduser())) / "engines"
        except RuntimeError:
            raise InputError(
                f"${VARIABLE} is {named}, but there is no such user; correct it."
            ) from None
        if not (reason := _why_shared(folder.parent) or _why_shared(folder)):
            return folder
        _warn(f"{reason}, so engines, which are native code, cannot lie there; {own} is used.")
    if reason := _why_shared(own.parent) or _why_shared(own):
        raise InputError(
            f"{reason}, so engines, which are native code, cannot lie there; restrict it to your "
            f"user, or set {VARIABLE} to a new folder."
        )
    return own


def is_own(path: Path) -> bool:
    """Return whether this user put a file into the cache.

    The user must own the file and own, as the only writer, its folders up to the cache's root.
    """
    root = cache_folder().parent
    try:
        if path.is_symlink() or _owner(path) != _user():
            return False
    except OSError:
        return False
    return not any(_why_shared(folder) for folder in path.parents if folder.is_relative_to(root))


def make_own(folder: Path) -> None:
    """Create a folder of the cache and its parents, writable by this user only.

    Raises:
        InputError: other users own or can write one that exists.
        OSError: the disk refuses the write.
    """
    root = cache_folder().parent
    root.parent.mkdir(parents=True, exist_ok=True)
    for each in (*reversed(folder.parents), folder):
        if each.is_relative_to(root):
            each.mkdir(mode=0o700, exist_ok=True)
            if reason := _why_shared(each):
                raise InputError(f"{reason}; remove it, or set {VARIABLE} to another folder.")


def _why_shared(folder: Path) -> str | None:
    """Return why other users may control a folder; None if they do not, or it is unreadable."""
    if not hasattr(os, "geteuid"):
        return None
    try:
        if folder.is_symlink():
            return f"{folder} is a link"
        # Root can do everything anyway.
        if _owner(folder) not in (_user(), 0):
            return f"{folder} belongs to another user"
        return f"other users can write {folder}" if folder.stat().st_mode & 0o022 else None
    except OSError:
        return None


def _owner(path: Path) -> int:
    return path.lstat().st_uid


def _user() -> int:
    return os.geteuid() if hasattr(os, "geteuid") else 0


@cache
def _warn(message: str) -> None:
    """Log a warning once."""
    logger.warning("%s", message)
