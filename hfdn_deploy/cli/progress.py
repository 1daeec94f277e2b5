"""Progress bars on stderr."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import lazy_loader  # type: ignore[import-untyped]

from hfdn_deploy.cli.printing import printable
from hfdn_deploy.errors import HFDNError
from hfdn_deploy.files import Done, Failed, Job
from hfdn_deploy.images import read_header
from hfdn_deploy.video import describe_video_header, is_video

# It takes a while to import, and only terminals get bars.
tqdm = lazy_loader.load("tqdm")

# The most letters of a file's name that a bar shows.
_NAME = 30


def pixels_of(job: Job) -> int:
    """Return the pixels of a job's image or frames by its header; 0 if unknown."""
    try:
        if is_video(job.source):
            facts = describe_video_header(job.source)
            frames = facts["frames"] or round((facts["rate"] or 0) * (facts["seconds"] or 0))
            return int(frames * facts["width"] * facts["height"])
        header = read_header(job.source)
        return header.width * header.height
    except HFDNError:
        return 0


@contextmanager
def run_progress(
    jobs: Sequence[Job], quiet: bool, pixels: Callable[[Job], int] = pixels_of
) -> "Iterator[RunBars | None]":
    """Yield the bars of a run, or None without a terminal; log messages go above them."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from tqdm.contrib.logging import logging_redirect_tqdm

    sizes = {
        job: pixels(job) for job in tqdm.tqdm(jobs, "sizes", leave=False, delay=1, unit="file")
    }
    with logging_redirect_tqdm(), RunBars(sizes) as bars:
        yield bars


class RunBars:
    """A bar for the run, measured in pixels, above a bar for the current file."""

    def __init__(self, sizes: dict[Job, int]) -> None:
        """Draw the bar for the run.

        Args:
            sizes: pixels of each file, 0 where unknown.
        """
        self._sizes = sizes
        self._files = 0
        self._counted: dict[Job, int] = {}
        self._stack = ExitStack()
        self._run: Any = self._stack.enter_context(
            tqdm.tqdm(total=sum(sizes.values()), unit="px", unit_scale=True)
        )
        self._file: Any = None
        self._current: Job | None = None
        self._count()

    def show(self, job: Job, done: int, total: int) -> None:
        """Show that `done` of `total` pixels or frames of a file are done; see `FileProgress`."""
        if job is not self._current:
            self._end_file()
            self._current = job
            unit = {"unit": "frame"} if is_video(job.source) else {"unit": "px", "unit_scale": True}
            name = printable(job.source.name)
            name = name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"
            self._file = tqdm.tqdm(desc=name, total=total or None, leave=False, position=1, **unit)
        self._file.update(done - self._file.n)
        if total:
            self._advance(job, self._sizes[job] * done // total)

    def finish(self, result: Done | Failed) -> None:
        """Count a file; the rest of a failed file is subtracted from the run's pixels."""
        job = result.job
        self._end_file()
        self._files += 1
        if isinstance(result, Failed):
            self._run.total -= self._sizes[job] - self._counted.get(job, 0)
        else:
            self._advance(job, self._sizes[job])
        self._count()

    def _advance(self, job: Job, pixels: int) -> None:
        before = self._counted.get(job, 0)
        self._counted[job] = pixels
        self._run.update(pixels - before)

    def _count(self) -> None:
        self._run.set_description_str(f"{self._files}/{len(self._sizes)} files")

    def _end_file(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = self._current = None

    def __enter__(self) -> "RunBars":
        return self

    def __exit__(self, *_: object) -> None:
        self._end_file()
        self._stack.close()
