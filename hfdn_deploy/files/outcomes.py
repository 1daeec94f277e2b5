"""The outcomes of a job."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from hfdn_deploy.errors import InputError
from hfdn_deploy.files.planning import Job
from hfdn_deploy.tiling import Progress

FileProgress = Callable[[Job, int, int], None]
"""Called with a job, the pixels or frames that are done, and their total number."""


def progress_of(job: Job, progress: FileProgress | None) -> Progress | None:
    """Return a callback for the progress of one job."""
    return partial(progress, job) if progress else None


@dataclass(frozen=True)
class Done:
    """A job whose output was written."""

    job: Job
    width: int
    height: int
    """Size of the result."""
    seconds: float
    """From reading to writing; in a batch, the share of this job."""
    frames: int = 1
    tile: int | None = None
    """Side of the tiles; None if the image was upscaled whole."""


@dataclass(frozen=True)
class Failed:
    """A job whose output was not written."""

    job: Job
    error: InputError
