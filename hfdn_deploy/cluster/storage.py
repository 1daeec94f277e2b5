"""Storages: a disk that all machines share, or an object store."""

import os
from dataclasses import dataclass
from pathlib import Path

from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType, LocalFileSystem

from hfdn_deploy.atomic import OCCUPIED, remove_abandoned, replaced
from hfdn_deploy.errors import InputError
from hfdn_deploy.files import FileFacts
from hfdn_deploy.images import IMAGE_SUFFIXES

STORES = ("s3", "gs", "abfs")
"""Schemes of object stores, which write files atomically."""


@dataclass(frozen=True)
class Storage:
    """A file system; can be pickled. Paths in a store begin with the bucket."""

    scheme: str
    """Scheme of an object store; empty for disks."""
    system: FileSystem

    def name(self, path: Path) -> str:
        """Return a file's name for users: its URI, or on a disk its path."""
        return f"{self.scheme}://{path}" if self.scheme else str(path)

    def listing(self, folder: Path) -> dict[Path, FileFacts]:
        """Return the files directly in a folder, without hidden files; empty without a folder.

        Raises:
            InputError: the folder cannot be read.
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
        """Return the images in a folder, by suffix, sorted; or the file itself, if it is a file.

        Raises:
            InputError: the path cannot be read.
        """
        found = self.listing(path)
        images = {p: facts for p, facts in found.items() if p.suffix.lower() in IMAGE_SUFFIXES}
        if not found and (facts := self.facts(path)):
            images = {path: facts}
        return images

    def facts(self, path: Path) -> FileFacts | None:
        """Return the facts of one file; None if it is missing or not a file.

        Raises:
            InputError: the path cannot be read.
        """
        try:
            info = self.system.get_file_info(str(path))
        except OSError as error:
            raise self._unreadable(path, error) from None
        return self._facts(info) if info.type == FileType.File else None

    def _facts(self, info: FileInfo) -> FileFacts:
        # Some stores give fractions of a second only in listings.
        step = 10**9 if self.scheme else 1
        return FileFacts(info.size, info.mtime_ns // step * step)

    def read(self, path: Path) -> bytes:
        """Return the content of a file.

        Raises:
            InputError: the file is missing, not regular, or cannot be read.
        """
        try:
            if not self.scheme:
                if path.exists() and not path.is_file():
                    raise InputError(f"{path} cannot be read: not a regular file; name an image.")
                return path.read_bytes()
            with self.system.open_input_file(str(path)) as file:
                return bytes(file.read())
        except OSError as error:
            raise self._unreadable(path, error) from None

    def check_writable(self, folder: Path) -> None:
        """Refuse a folder on a disk that cannot be written, as far as its permissions show.

        Raises:
            InputError: the folder cannot be written.
        """
        if self.scheme:
            return
        there = next(path for path in (folder, *folder.parents) if path.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            why = "is read-only for you" if there.is_dir() else "is not a folder"
            raise InputError(f"{folder} cannot be written: {there} {why}; choose another place.")

    def write(self, path: Path, data: bytes, *, overwrite: bool = True) -> None:
        """Write a file atomically.

        Args:
            path: the file.
            data: its content.
            overwrite: replace an existing file; otherwise refuse it, unless it has this content,
                because a worker wrote it and was killed before it could report. In a store, the
                check comes before the write, so two runs at the same moment may both write.

        Raises:
            InputError: the file cannot be written, or it exists and may not be replaced.
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
            # A store replaces the object only when the new one is complete.
            with self.system.open_output_stream(str(path)) as file:
                file.write(data)
        except OSError as error:
            raise InputError(
                f"{self.name(path)} cannot be written: {_reason(error)}; choose another place."
            ) from None

    def tidy(self, folder: Path) -> None:
        """Remove temporary files that killed writers left in a folder."""
        if not self.scheme:
            remove_abandoned(folder)

    def _unreadable(self, path: Path, error: OSError) -> InputError:
        return InputError(f"{self.name(path)} cannot be read: {_reason(error)}.")


DISK = Storage("", LocalFileSystem())


def locate(name: str) -> tuple[Storage, Path]:
    """Return the storage of a path or URI, and the path in it, absolute on a disk.

    Raises:
        InputError: the scheme is unknown, the store cannot be reached, or the bucket is missing.
    """
    scheme, separator, rest = name.partition("://")
    if not separator:
        return DISK, Path(name).absolute()
    if scheme == "file":
        return DISK, Path(rest)
    if scheme not in STORES:
        known = ", ".join(f"{store}://" for store in STORES)
        raise InputError(f"{name} is in an unknown storage; use a folder, or a URI with {known}.")
    try:
        system, path = FileSystem.from_uri(name)
    except (OSError, ValueError) as error:
        raise InputError(f"{name} cannot be reached: {_reason(error)}.") from None
    if not path:
        raise InputError(f"{name} does not name a bucket; add it to the URI.")
    return Storage(scheme, system), Path(path)


def _reason(error: Exception) -> str:
    """Return the first line of an error, without Arrow's trace."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return text.splitlines()[0].split(". Detail:")[0].rstrip(".")
