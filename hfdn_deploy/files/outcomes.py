"""What becomes of a job."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from hfdn_deploy.errors import InputError
from hfdn_deploy.files.planning import Job
from hfdn_deploy.tiling import Progress

FileProgress = Callable[[Job, int, int], None]
"""Takes a job, and how many pixels of its image or frames of its video are done of how many."""


def progress_of(job: Job, progress: FileProgress | None) -> Progress | None:
    """What tells the progress of one job."""
    return partial(progress, job) if progress else None


@dataclass(frozen=True)
class Done:
    """One that was written."""

    job: Job
    width: int
    height: int
    """Of the upscaled image."""
    seconds: float
    """From reading to writing; in a batch, its share."""
    frames: int = 1
    tile: int | None = None
    """Side of the tiles that it was upscaled in; None for the whole."""


@dataclass(frozen=True)
class Failed:
    """One that was not."""

    job: Job
    error: InputError
