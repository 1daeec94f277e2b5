"""What became of each image of a run: a line of JSON in a file beside the images."""

import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from hfdn_deploy.bundle import from_json
from hfdn_deploy.cluster.storage import Storage
from hfdn_deploy.errors import InputError
from hfdn_deploy.files import Entry, FileFacts, Job, Made

NAME = "results.jsonl"
UNFINISHED = "the run ended before this image was done"
"""The error of an image whose run has not come to it, or was killed before it could tell."""

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
    """Of the output; so is `sha256`. Where the image is unfinished, of what it replaces."""
    sha256: str | None = None
    modified: int | None = None
    """Time of the last change of that file, in µs."""
    input_bytes: int | None = None
    made: Made | None = None
    """What makes the output: see `hfdn_deploy.files.Making`."""
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
        self._begun = False
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

    def entry(self, output: Path, facts: FileFacts | None) -> Entry | None:
        """What made an output that is there, as far as the results tell.

        Outputs appear whole, so another file than an unfinished image found is that image's.
        """
        known = self._lines.get(output.name)
        if known is None or facts is None or known.made is None or known.input_bytes is None:
            return None
        now = facts.bytes, facts.microseconds
        size, modified = known.bytes, known.modified
        if known.error == UNFINISHED and (size, modified) != now:
            size, modified = now
        elif known.error is not None or size is None or modified is None:
            return None
        return Entry(output.name, size, modified, known.input_bytes, known.made)

    def begin(self, results: Iterable[ImageResult]) -> None:
        """Put in images that are not done yet; they are saved with the first result.

        Args:
            results: with the error `UNFINISHED`.
        """
        self._lines |= {result.output: result for result in results}
        self._begun = True

    def add(self, result: ImageResult) -> None:
        """Put in the result of an image, in the place of an earlier one.

        Raises:
            InputError: the storage refuses.
        """
        self._lines[result.output] = result
        self._changed = True
        waited = time.monotonic() - self._saved
        if self._begun or waited > max(_SECONDS, self._took / _SHARE):
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
            found = replace(
                known or ImageResult(source.name(job.source), job.target.name),
                error=None,
                bytes=len(data),
                sha256=hashlib.sha256(data).hexdigest(),
                modified=facts.microseconds,
            )
            self.add(found)

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
        self._changed = self._begun = False
        self._saved = time.monotonic()
        self._took = self._saved - start
