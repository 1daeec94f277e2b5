"""Upscaling files; a bad file does not stop the others."""

from collections.abc import Iterator, Sequence

from hfdn_deploy.atomic import remove_abandoned
from hfdn_deploy.errors import InputError
from hfdn_deploy.files.animation import is_animation, upscale_animation
from hfdn_deploy.files.outcomes import Done, Failed, FileProgress, progress_of
from hfdn_deploy.files.planning import Job
from hfdn_deploy.files.stills import run_stills
from hfdn_deploy.files.writing import DEFAULTS, Writing
from hfdn_deploy.tiling import Progress
from hfdn_deploy.upscaler import Upscaler
from hfdn_deploy.video import is_video, upscale_video


def run_jobs(
    up: Upscaler,
    jobs: Sequence[Job],
    writing: Writing = DEFAULTS,
    batch: int = 1,
    progress: FileProgress | None = None,
) -> Iterator[Done | Failed]:
    """Upscale files; a bad file does not stop the others.

    First removes temporary files that killed runs left in the folders of the outputs.

    Args:
        up: the upscaler.
        jobs: the files. Videos and animations come first, then images, grouped by size.
        writing: how the outputs are written.
        batch: the most images of one size that run at once; if 1, small images run in threads.
        progress: called after each tile or frame, for the first file of a batch; never for images
            in threads.

    Raises:
        BackendError: the backend failed.
    """
    for folder in {job.target.parent for job in jobs}:
        remove_abandoned(folder)
    stills = []
    for job in jobs:
        if is_video(job.source):
            yield _video(up, job, writing, progress_of(job, progress))
        elif is_animation(job.source, job.target):
            yield _animation(up, job, writing, progress_of(job, progress))
        else:
            stills.append(job)
    yield from run_stills(up, stills, writing, batch, progress)


def _video(up: Upscaler, job: Job, writing: Writing, progress: Progress | None) -> Done | Failed:
    try:
        facts = upscale_video(
            up, job.source, job.target, writing.keep_metadata, writing.video,
            overwrite=job.overwrite, progress=progress,
        )  # fmt: skip
    except InputError as error:
        return Failed(job, error)
    return Done(job, **facts)


def _animation(
    up: Upscaler, job: Job, writing: Writing, progress: Progress | None
) -> Done | Failed:
    try:
        return Done(job, **upscale_animation(up, job, writing, progress))
    except InputError as error:
        return Failed(job, error)
