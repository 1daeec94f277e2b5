"""Folders on a disk that all machines see or in an object store, read and written whole."""

import os
from dataclasses import dataclass
from pathlib import Path

from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType, LocalFileSystem

from hfdn_deploy.atomic import OCCUPIED, remove_abandoned, replaced
from hfdn_deploy.errors import InputError
from hfdn_deploy.files import FileFacts
from hfdn_deploy.images import IMAGE_SUFFIXES

STORES = ("s3", "gs", "abfs")
"""Schemes of object stores, where a file appears whole or not at all."""


@dataclass(frozen=True)
class Storage:
    """A file system; can be pickled. Paths in a store begin with the bucket."""

    scheme: str
    """Of an object store; empty for disks."""
    system: FileSystem

    def name(self, path: Path) -> str:
        """What a user calls a file: its URI, or on a disk its path."""
        return f"{self.scheme}://{path}" if self.scheme else str(path)

    def listing(self, folder: Path) -> dict[Path, FileFacts]:
        """The files directly in a folder, hidden ones left out; none where there is no folder.

        Raises:
            InputError: it cannot be read.
        """
        try:
            found = self.system.get_file_info(FileSelector(str(folder), allow_not_found=True))
        except OSError as error:
            raise self._unreadable(folder, error) from None
        return {
            Path(info.path): self._facts(info)
            for info in sorted(found, key=lambda info: info.path)
            if info.type == FileType.File and not info.base_name.startswith(".")
        }

    def images(self, path: Path) -> dict[Path, FileFacts]:
        """The images in a folder by their suffix, sorted; or the file, if it is one.

        Raises:
            InputError: it cannot be read.
        """
        found = self.listing(path)
        images = {p: facts for p, facts in found.items() if p.suffix.lower() in IMAGE_SUFFIXES}
        if not found and (facts := self.facts(path)):
            images = {path: facts}
        return images

    def facts(self, path: Path) -> FileFacts | None:
        """Those of one file; None if it is missing or none."""
        try:
            info = self.system.get_file_info(str(path))
        except OSError as error:
            raise self._unreadable(path, error) from None
        return self._facts(info) if info.type == FileType.File else None

    def _facts(self, info: FileInfo) -> FileFacts:
        # Some stores tell fractions of a second in a listing alone.
        step = 10**9 if self.scheme else 1
        return FileFacts(info.size, info.mtime_ns // step * step)

    def read(self, path: Path) -> bytes:
        """The content of a file.

        Raises:
            InputError: it is missing or cannot be read.
        """
        try:
            if not self.scheme:
                if path.exists() and not path.is_file():
                    raise InputError(f"{path} cannot be read: no regular file; name an image.")
                return path.read_bytes()
            with self.system.open_input_file(str(path)) as file:
                return bytes(file.read())
        except OSError as error:
            raise self._unreadable(path, error) from None

    def check_writable(self, folder: Path) -> None:
        """Refuse a folder that nothing can be written to, as far as a disk tells without trying.

        Raises:
            InputError: so it is.
        """
        if self.scheme:
            return
        there = next(path for path in (folder, *folder.parents) if path.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            why = "is read-only for you" if there.is_dir() else "is no folder"
            raise InputError(f"{folder} cannot be written: {there} {why}; choose another place.")

    def write(self, path: Path, data: bytes, *, overwrite: bool = True) -> None:
        """Write a file, of which nobody ever sees a half.

        Args:
            path: the file.
            data: its content.
            overwrite: replace a file that is there; otherwise refuse, unless it has this content:
                a worker wrote it and was killed before it could tell. A store is only asked
                before, so of two runs at the same moment both may write.

        Raises:
            InputError: the disk or the store refuses, or a file is there that may not be replaced.
        """
        if not overwrite and self.facts(path):
            if self.read(path) != data:
                raise InputError(f"{self.name(path)} {OCCUPIED}")
            return
        if not self.scheme:
            with replaced(path, overwrite=overwrite) as temporary:
                temporary.write_bytes(data)
            return
        try:
            # A store shows the object when all of it is there; the one before stays until then.
            with self.system.open_output_stream(str(path)) as file:
                file.write(data)
        except OSError as error:
            raise InputError(
                f"{self.name(path)} cannot be written: {_reason(error)}; choose another place."
            ) from None

    def tidy(self, folder: Path) -> None:
        """Remove what writers that were killed left behind in a folder."""
        if not self.scheme:
            remove_abandoned(folder)

    def _unreadable(self, path: Path, error: OSError) -> InputError:
        return InputError(f"{self.name(path)} cannot be read: {_reason(error)}.")


DISK = Storage("", LocalFileSystem())


def locate(name: str) -> tuple[Storage, Path]:
    """The storage that a path or URI is in, and the path there, absolute on a disk.

    Raises:
        InputError: an unknown scheme, or the store cannot be reached.
    """
    scheme, separator, rest = name.partition("://")
    if not separator:
        return DISK, Path(name).absolute()
    if scheme == "file":
        return DISK, Path(rest)
    if scheme not in STORES:
        known = ", ".join(f"{store}://" for store in STORES)
        raise InputError(f"{name} is in no storage that is known; name a folder, or {known}.")
    try:
        system, path = FileSystem.from_uri(name)
    except (OSError, ValueError) as error:
        raise InputError(f"{name} cannot be reached: {_reason(error)}.") from None
    if not path:
        raise InputError(f"{name} names no bucket; add one.")
    return Storage(scheme, system), Path(path)


def _reason(error: Exception) -> str:
    """One line; what Arrow says beyond it is a trace."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return text.splitlines()[0].split(". Detail:")[0].rstrip(".")
