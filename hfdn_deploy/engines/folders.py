"""Where the cache of engines lies, and that nobody else can write there.

An engine is native code, and what a user's cache holds is run without being asked about.
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
    """Where engines are kept: in `$HFDN_CACHE`, or in what the system has for this user's caches.

    The latter, with a warning, also where others own or can write the former.

    Raises:
        InputError: others own or can write both, or there is no such user's home.
    """
    named = os.environ.get(VARIABLE)
    own = user_cache_path("hfdn-deploy") / "engines"
    if named:
        try:
            # No shell does it behind `docker -e` or in a file.
            folder = Path(os.path.realpath(Path(named).expanduser())) / "engines"
        except RuntimeError:
            raise InputError(
                f"${VARIABLE} is {named}, and there is no such user; mend it."
            ) from None
        if not (reason := _why_shared(folder.parent) or _why_shared(folder)):
            return folder
        _warn(f"{reason}, so it is no cache for engines, which are native code; {own} is used.")
    if reason := _why_shared(own.parent) or _why_shared(own):
        raise InputError(
            f"{reason}, so it is no cache for engines, which are native code; make it yours alone, "
            f"or set {VARIABLE} to a folder that is not there yet."
        )
    return own


def is_own(path: Path) -> bool:
    """Whether this user put a file into the cache.

    It and the folders up to the cache's root are this user's, who alone can write those.
    """
    root = cache_folder().parent
    try:
        if path.is_symlink() or _owner(path) != _user():
            return False
    except OSError:
        return False
    return not any(_why_shared(folder) for folder in path.parents if folder.is_relative_to(root))


def make_own(folder: Path) -> None:
    """Make a folder of the cache, and those above it, for this user alone.

    Raises:
        InputError: others own or can write one of them that is there.
        OSError: the disk refuses.
    """
    root = cache_folder().parent
    root.parent.mkdir(parents=True, exist_ok=True)
    for each in (*reversed(folder.parents), folder):
        if each.is_relative_to(root):
            each.mkdir(mode=0o700, exist_ok=True)
            if reason := _why_shared(each):
                raise InputError(f"{reason}; remove it, or set {VARIABLE} to another folder.")


def _why_shared(folder: Path) -> str | None:
    """Why a folder is not this user's alone; None if it is, or cannot be looked at."""
    if not hasattr(os, "geteuid"):
        return None
    try:
        if folder.is_symlink():
            return f"{folder} is a link"
        # Whoever runs the system can do everything anyway.
        if _owner(folder) not in (_user(), 0):
            return f"{folder} belongs to somebody else"
        return f"others can write {folder}" if folder.stat().st_mode & 0o022 else None
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
