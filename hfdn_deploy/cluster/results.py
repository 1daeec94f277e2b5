"""The list of results: a file beside the outputs, with a line of JSON for each image."""

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
"""The error of an image that its run has not reached, or was killed before it could report."""

# The largest share of the time to spend on rewriting the file, and the least seconds between.
_SHARE = 0.05
_SECONDS = 1.0


@dataclass(frozen=True)
class ImageResult:
    """The result for one image; unknown values are None."""

    input: str
    """Path or URI."""
    output: str
    """File name in the folder of this list."""
    error: str | None = None
    """Why this run made no output."""
    width: int | None = None
    """Width of the output in pixels."""
    height: int | None = None
    """Height of the output in pixels."""
    bytes: int | None = None
    """Size of the output; of the file to be replaced if the image is unfinished."""
    sha256: str | None = None
    """Hash of the output, in hexadecimal."""
    modified: int | None = None
    """Time of the last change of the file that `bytes` describes, in µs."""
    input_bytes: int | None = None
    made: Made | None = None
    """The options that make the output: see `hfdn_deploy.files.Making`."""
    seconds: float | None = None
    """Time from decoding to writing."""
    backend: str | None = None
    precision: str | None = None


class Results:
    """The results of an output folder, by output; the file on the disk is always complete."""

    def __init__(self, storage: Storage, folder: Path) -> None:
        """Read the results of earlier runs.

        Raises:
            InputError: the file is not a list of results.
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
                    f"{storage.name(self._path)} is not a list of results ({error}); move it away."
                ) from None
            self._lines = {result.output: result for result in found}

    def entry(self, output: Path, facts: FileFacts | None) -> Entry | None:
        """Return the record of how an existing output was made; None if it is unknown.

        Outputs are written atomically, so if an unfinished image's file has changed, the new file
        is its output.
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
        """Add images that are not done yet; they are saved with the first result.

        Args:
            results: results with the error `UNFINISHED`.
        """
        self._lines |= {result.output: result for result in results}
        self._begun = True

    def add(self, result: ImageResult) -> None:
        """Add the result of an image, or replace an earlier one.

        Raises:
            InputError: the file cannot be written.
        """
        self._lines[result.output] = result
        self._changed = True
        waited = time.monotonic() - self._saved
        if self._begun or waited > max(_SECONDS, self._took / _SHARE):
            self.save()

    def adopt(self, done: Mapping[Job, FileFacts], source: Storage) -> None:
        """Add existing outputs that are not listed, because the run that made them was killed.

        Args:
            done: the jobs and their outputs.
            source: the storage of the inputs.

        Raises:
            InputError: an output cannot be read, or the file cannot be written.
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
        """Rewrite the file if a result has changed.

        Raises:
            InputError: the file cannot be written.
        """
        if not self._changed:
            return
        start = time.monotonic()
        text = "".join(json.dumps(asdict(line)) + "\n" for line in self._lines.values())
        self._storage.write(self._path, text.encode())
        self._changed = self._begun = False
        self._saved = time.monotonic()
        self._took = self._saved - start
