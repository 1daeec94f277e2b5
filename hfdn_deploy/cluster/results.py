"""What became of each image of a run: a line of JSON in a file beside the images."""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from hfdn_deploy.bundle import from_json
from hfdn_deploy.cluster.storage import FileFacts, Storage
from hfdn_deploy.errors import InputError
from hfdn_deploy.files import Job

NAME = "results.jsonl"

# Writing the file anew may take this share of the time, and is not worth it more often than this.
_SHARE = 0.05
_SECONDS = 1.0


@dataclass(frozen=True)
class ImageResult:
    """One image; what is not known is None."""

    input: str
    """Path or URI."""
    output: str
    """Name of the file beside this one."""
    error: str | None = None
    """Why there is no output of this run."""
    width: int | None = None
    """Of the output in pixels; so is `height`."""
    height: int | None = None
    bytes: int | None = None
    """Of the output; so is `sha256`."""
    sha256: str | None = None
    seconds: float | None = None
    """From the decoding to the writing."""
    backend: str | None = None
    precision: str | None = None


class Results:
    """The results of an output folder, by output; one that is whole is always on the disk."""

    def __init__(self, storage: Storage, folder: Path) -> None:
        """Read those of earlier runs.

        Raises:
            InputError: the file there is something else.
        """
        self.folder = folder
        self._storage = storage
        self._path = folder / NAME
        self._lines: dict[str, ImageResult] = {}
        self._changed = False
        self._saved = time.monotonic()
        self._took = 0.0
        if storage.facts(self._path):
            try:
                lines = storage.read(self._path).decode().splitlines()
                found = [from_json(ImageResult, json.loads(line)) for line in lines]
            except ValueError as error:
                raise InputError(
                    f"{storage.name(self._path)} is no list of results ({error}); move it away."
                ) from None
            self._lines = {result.output: result for result in found}

    def add(self, result: ImageResult) -> None:
        """Put in the result of an image, in the place of an earlier one.

        Raises:
            InputError: the storage refuses.
        """
        self._lines[result.output] = result
        self._changed = True
        waited = time.monotonic() - self._saved
        if waited > max(_SECONDS, self._took / _SHARE):
            self.save()

    def adopt(self, done: Mapping[Job, FileFacts], source: Storage) -> None:
        """Put in outputs that are there but not known: the run that made them was killed.

        Args:
            done: the jobs that made them, and the outputs.
            source: where the inputs are.

        Raises:
            InputError: an output cannot be read.
        """
        for job, facts in done.items():
            known = self._lines.get(job.target.name)
            if known and known.error is None and known.bytes == facts.bytes:
                continue
            data = self._storage.read(job.target)
            sha256 = hashlib.sha256(data).hexdigest()
            name = source.name(job.source)
            self.add(ImageResult(name, job.target.name, bytes=len(data), sha256=sha256))

    def save(self) -> None:
        """Write the file anew, whole, if there is something new.

        Raises:
            InputError: the storage refuses.
        """
        if not self._changed:
            return
        start = time.monotonic()
        text = "".join(json.dumps(asdict(line)) + "\n" for line in self._lines.values())
        self._storage.write(self._path, text.encode())
        self._changed = False
        self._saved = time.monotonic()
        self._took = self._saved - start
