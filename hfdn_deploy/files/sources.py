"""The files that the names on a command line refer to."""

import glob
import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from hfdn_deploy.atomic import check_regular
from hfdn_deploy.errors import BackendError, HFDNError, InputError
from hfdn_deploy.files.naming import first_bytes
from hfdn_deploy.images import IMAGE_SUFFIXES, format_of
from hfdn_deploy.video import is_video

logger = logging.getLogger(__name__)

# The most kinds of files that a message counts separately.
_KINDS = 8
# Raw files of cameras look like a TIFF, but a TIFF reader finds only a thumbnail.
_RAW_SUFFIXES = frozenset(
    (
        ".3fr", ".arw", ".cr2", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos", ".nef",
        ".nrw", ".orf", ".pef", ".rwl", ".sr2", ".srf", ".srw",
    )
)  # fmt: skip


@dataclass(frozen=True)
class Source:
    """A file to upscale."""

    path: Path
    folder: Path = Path()
    """Folder for its output, relative to the output folder."""
    named: bool = True
    """Whether the user named the file itself, not a folder or glob."""


@dataclass(frozen=True)
class Unusable:
    """An input, or a file that it refers to, without a job."""

    name: str
    error: HFDNError


def check_given(inputs: Sequence[str], output: str) -> None:
    """Refuse names that cannot be inputs or outputs.

    Raises:
        InputError: a name is empty, or the output is "-".
    """
    if "" in inputs:
        raise InputError("an input has an empty name; name files, folders or globs.")
    if output in ("", "-"):
        raise InputError(
            f"the output is {output!r}, which is not a file name; name a file or a folder."
        )


def find_sources(
    inputs: Sequence[str], recursive: bool = False, output: Path | None = None
) -> tuple[list[Source], list[Unusable]]:
    """Return the files that names refer to, and the names without usable files.

    Args:
        inputs: files, folders and globs, as for `plan_jobs`.
        recursive: include the folders below a folder. A folder that matches a glob or that is one
            of several inputs keeps its name below the output.
        output: a folder to skip if `recursive`.
    """
    sources: list[Source] = []
    unusable: list[Unusable] = []
    several = recursive and len(inputs) > 1
    finder = _Finder(recursive, several, os.path.realpath(output) if output else None)
    for name in inputs:
        if several and finder.is_output(name):
            continue  # `in/* -o in/out`
        try:
            found, others = finder.files_behind(name)
            sources += found
            unusable += others
        except OSError as error:
            unusable.append(Unusable(name, _unreadable(name, error)))
        except HFDNError as error:
            unusable.append(Unusable(name, error))
    return sources, unusable


def _unreadable(name: object, error: OSError) -> InputError:
    return InputError(
        f"{name} cannot be read: {error.strerror}; check its permissions, or leave it out."
    )


@dataclass(frozen=True)
class _Finder:
    recursive: bool
    several: bool
    """Whether folders keep their own names below the output folder."""
    output: str | None
    """The output folder's real path."""

    def is_output(self, path: str | Path) -> bool:
        return os.path.realpath(path) == self.output

    def files_behind(self, name: str) -> tuple[list[Source], list[Unusable]]:
        path = Path(name)
        if path.is_dir():
            sources, unusable = self._images_in(path, self.several)
            if not sources and not unusable:
                raise InputError(f"no image in {name}; name files, folders or globs.")
            return sources, unusable
        if not glob.has_magic(name) or os.path.lexists(path):
            _check_content(path)
            return [Source(path)], []
        sources, unusable = [], []
        for hit in sorted(map(Path, glob.glob(name, recursive=True))):  # noqa: PTH207
            if not hit.is_dir():
                try:
                    _check_content(hit)
                    sources.append(Source(hit, named=False))
                except HFDNError as error:
                    unusable.append(Unusable(str(hit), error))
            elif self.recursive and not ("**" in name or hit.is_symlink() or self.is_output(hit)):
                found, others = self._images_in(hit, True)
                sources += found
                unusable += others
        if not sources and not unusable:
            raise InputError(f"no image in {name}: no file matches it; name files or folders.")
        return sources, unusable

    def _images_in(self, folder: Path, with_name: bool) -> tuple[list[Source], list[Unusable]]:
        """Return the images in a folder; log how many other visible files there are."""
        images: list[Source] = []
        left: Counter[str] = Counter()
        unusable: list[Unusable] = []
        name = folder.absolute().name if with_name else ""
        for path, error in self._walk(folder):
            if error and path == folder:
                raise error
            if error:
                unusable.append(Unusable(str(path), _unreadable(path, error)))
            elif reason := _why_left(path):
                left[reason] += 1
            else:
                place = name / path.parent.relative_to(folder)
                images.append(Source(path, place, named=False))
        if left:
            logger.warning("%s: left out: %s", folder, _counted(left))
        return images, unusable

    def _walk(self, folder: Path) -> Iterator[tuple[Path, OSError | None]]:
        """Yield visible files, folders that are not entered, and folders that cannot be read."""
        errors: list[OSError] = []
        for parent, folders, files in os.walk(folder, onerror=errors.append):
            below = [name for name in folders if not self.is_output(Path(parent, name))]
            known = {*below}
            visible = sorted(name for name in below + files if not name.startswith("."))
            folders[:] = [
                name
                for name in visible
                if name in known and self.recursive and not Path(parent, name).is_symlink()
            ]
            entered = {*folders}
            yield from ((Path(parent, name), None) for name in visible if name not in entered)
        yield from ((Path(error.filename), error) for error in errors)


def _check_content(path: Path) -> None:
    """Refuse a file that is not an image or video; a damaged file fails when it is read.

    Raises:
        InputError: the file is missing, or is not an image or video.
        BackendError: the file is a video, and PyAV is not installed.
    """
    suffix = path.suffix.lower()
    if suffix in _RAW_SUFFIXES:
        raise InputError(f"{path} is a camera's raw file; convert it first, for example to TIFF.")
    if is_video(path) and find_spec("av") is None:
        raise BackendError(f"{path} needs PyAV", "pip install 'hfdn-deploy[video]'")
    if suffix in IMAGE_SUFFIXES or is_video(path):
        return
    if not path.is_file() and not path.is_symlink() and not path.exists():
        raise InputError(f"{path} cannot be read: No such file or directory; check its name.")
    check_regular(path, InputError)
    if not format_of(first_bytes(path)):
        raise InputError(f"{path} is not an image or video of a known format; leave it out.")


def _counted(kinds: Counter[str]) -> str:
    first = kinds.most_common(_KINDS)
    texts = [f"{number} {kind.replace('|', 's' * (number > 1))}" for kind, number in first]
    others = kinds.total() - sum(number for _, number in first)
    return ", ".join([*texts, f"{others} of other kinds"] if others else texts)


def _why_left(path: Path) -> str | None:
    """Return the kind of a file that is left out, "|" marking the plural; None for an image."""
    suffix = path.suffix.lower()
    if path.is_dir():
        return "linked folder|" if path.is_symlink() else "folder| (-r includes them)"
    if not path.exists():
        return "broken link|"
    if not path.is_file():
        return "special file|"
    if is_video(path):
        return "video| (name them)"
    if suffix not in _RAW_SUFFIXES and (
        suffix in IMAGE_SUFFIXES or format_of(first_bytes(path)) is not None
    ):
        return None
    return suffix or "without a suffix"
