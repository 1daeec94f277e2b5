"""Which files the names on a command line stand for."""

import glob
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hfdn_deploy.errors import InputError
from hfdn_deploy.images import IMAGE_SUFFIXES
from hfdn_deploy.video import is_video

logger = logging.getLogger(__name__)

# Names in a message; more are counted.
_NAMED = 5


@dataclass(frozen=True)
class Unusable:
    """An input as it was given, or a file that it stands for, that gives no job."""

    name: str
    error: InputError


def check_given(inputs: Sequence[str], output: str) -> None:
    """Refuse names that stand for nothing.

    Raises:
        InputError: a name is empty, or the output is "-".
    """
    if "" in inputs:
        raise InputError("an input has an empty name; name files, folders or globs.")
    if output in ("", "-"):
        raise InputError(f"the output is {output!r}, which names no file; name a file or a folder.")


def find_sources(inputs: Sequence[str]) -> tuple[list[Path], list[Unusable]]:
    """The files behind names, and the names that stand for none; as `plan_jobs` takes them."""
    sources: list[Path] = []
    unusable: list[Unusable] = []
    for name in inputs:
        try:
            sources += _files_behind(name)
        except InputError as error:
            unusable.append(Unusable(name, error))
    return sources, unusable


def _files_behind(name: str) -> list[Path]:
    path = Path(name)
    try:
        if path.is_dir():
            return _images_in(path)
        if glob.has_magic(name) and not os.path.lexists(path):
            hits = sorted(map(Path, glob.glob(name, recursive=True)))  # noqa: PTH207
            if files := [hit for hit in hits if not hit.is_dir()]:
                return files
            raise InputError(f"no image in {name}: no file matches it; name files or folders.")
    except OSError as error:
        raise InputError(
            f"{name} cannot be read: {error.strerror}; check its permissions, or leave it out."
        ) from None
    return [path]


def _images_in(folder: Path) -> list[Path]:
    """The images directly in a folder by their suffix; what else is visible is mentioned."""
    files = [p for p in sorted(folder.iterdir()) if not p.name.startswith(".") and not p.is_dir()]
    images = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    videos = list(filter(is_video, files))
    if videos:
        logger.warning("%s: videos in it are left out (%d); name them", folder, len(videos))
    if others := sorted({*files}.difference(images, videos)):
        names = ", ".join(path.name for path in others[:_NAMED])
        names += ", …" * (len(others) > _NAMED)
        logger.warning("%s: left out, no images by suffix (%d): %s", folder, len(others), names)
    if not images:
        raise InputError(f"no image in {folder}; name files, folders or globs.")
    return images
