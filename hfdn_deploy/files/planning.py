"""Which files are upscaled to which."""

import glob
import os
import stat
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from hfdn_deploy.errors import InputError
from hfdn_deploy.files.sources import Unusable, check_given, find_sources
from hfdn_deploy.images import IMAGE_SUFFIXES, check_format, read_header
from hfdn_deploy.video import check_video_format, is_video


@dataclass(frozen=True)
class Job:
    """One image or video to upscale."""

    source: Path
    target: Path
    overwrite: bool = field(default=False, compare=False)
    """Whether an output that is there may be replaced."""


Times = Callable[[Job], tuple[int | None, int | None]]
"""Gives the times, in ns, at which a job's input and output were changed; None where missing."""


def plan_jobs(inputs: Sequence[str], output: str) -> tuple[list[Job], list[Unusable]]:
    """Pairs of input and output file.

    Args:
        inputs: files, folders (the images directly in them) and globs.
        output: a folder if it is one or ends in a slash, or if it has no suffix of a format and
            is for several inputs or for a folder; else a file.

    Returns:
        The jobs, and the inputs that give none because they cannot be read, are empty or of no
        known format.

    Raises:
        InputError: an input or the output has an empty name, there is one input and it gives no
            job, the output is a file of no known format, several inputs would become one output
            (on a file system that ignores case, too), or an output is one of the inputs.
    """
    check_given(inputs, output)
    sources, unusable = find_sources(inputs)
    if _is_folder(output, inputs):
        jobs, others = keep_names(sources, Path(output))
        unusable += others
    else:
        jobs = [Job(source, Path(output)) for source in sources]
        if len(sources) > 1:
            raise InputError(f"{output} is one file for {len(sources)} images; name a folder.")
        for job in jobs:
            _check_kinds(job)
    raise_alone(jobs, unusable)
    check_names(jobs)
    check_overwriting(jobs)
    return jobs, unusable


def raise_alone(jobs: Sequence[Job], unusable: Sequence[Unusable]) -> None:
    """Raise the error of an unusable input if there is nothing else.

    Raises:
        InputError: that one.
    """
    if len(unusable) == 1 and not jobs:
        raise unusable[0].error


def _is_folder(output: str, inputs: Sequence[str]) -> bool:
    path = Path(output)
    if path.is_dir() or output.endswith(("/", os.sep)) or not path.suffix:
        return True
    if path.suffix.lower() in IMAGE_SUFFIXES or is_video(path):
        return False
    return len(inputs) > 1 or glob.has_magic(inputs[0]) or Path(inputs[0]).is_dir()


def keep_names(sources: Sequence[Path], folder: Path) -> tuple[list[Job], list[Unusable]]:
    """Jobs that write to a folder under the names of their inputs.

    Returns:
        The jobs, and the inputs whose format cannot be written.
    """
    jobs: list[Job] = []
    unusable: list[Unusable] = []
    for source in sources:
        try:
            _check_kinds(Job(source, source))
            jobs.append(Job(source, folder / source.name))
        except InputError as error:
            unusable.append(Unusable(str(source), error))
    return jobs, unusable


def _check_kinds(job: Job) -> None:
    """Refuse a target of no known format, or a video for an image."""
    if is_video(job.source) or is_video(job.target):
        if not is_video(job.source):
            raise InputError(f"{job.source} is no video, so {job.target} cannot be made of it.")
        check_video_format(job.target)
    else:
        check_format(job.target)


def check_names(jobs: Sequence[Job]) -> None:
    """Refuse several inputs for one output.

    Raises:
        InputError: two jobs have one target.
    """
    taken: dict[str, Job] = {}
    for job in jobs:
        # Names that differ in case or accents' encoding alone are one file on some systems.
        name = unicodedata.normalize("NFC", str(job.target)).casefold()
        if name in taken:
            both = f"{taken[name].source} and {job.source}"
            raise InputError(f"{both} would both become {job.target}; name other folders.")
        taken[name] = job


def check_overwriting(jobs: Sequence[Job]) -> None:
    """Refuse an output that is a folder, or an input, be it by another name.

    Raises:
        InputError: an output is one of these.
    """
    read = {_identity(status) for job in jobs if (status := _status(job.source))}
    for job in jobs:
        if status := _status(job.target):
            if stat.S_ISDIR(status.st_mode):
                raise InputError(f"{job.target} is a folder; move it away, or name another output.")
            if _identity(status) in read:
                raise InputError(f"{job.source} would overwrite an input; name another output.")


def pending_jobs(
    jobs: Sequence[Job],
    force: bool,
    resume: bool,
    times: Times | None = None,
    scale: int | None = None,
) -> list[Job]:
    """Those still to be done, before anything is written.

    Args:
        jobs: from `plan_jobs`.
        force: outputs that exist may be overwritten; if `resume`, those that are not done.
        resume: leave out jobs whose output is done: it is no older than its input, and `scale`
            times as large.
        times: says when input and output were changed; by default their files are asked.
        scale: of the model; None if outputs of any size are done.

    Raises:
        InputError: an output exists and may not be overwritten.
    """
    times = times or _times
    pending: list[Job] = []
    refused: list[tuple[Job, str]] = []
    for job in jobs:
        changed, made = times(job)
        if changed is not None and made is not None:
            reason = _why_not_done(job, changed, made, scale) if resume else "there already"
            if reason is None:
                continue
            refused.append((job, reason))
        pending.append(replace(job, overwrite=force))
    if refused and not force:
        job, reason = refused[0]
        others = f" and {len(refused) - 1} more" if len(refused) > 1 else ""
        advice = "" if resume else ", --resume skips what is done"
        raise InputError(f"{job.target}{others}: {reason}; --force overwrites{advice}.")
    return pending


def _why_not_done(job: Job, changed: int, made: int, scale: int | None) -> str | None:
    """Why an output, which is there and never half of one, is not done; None if it is."""
    if made < changed:
        return "older than its input"
    with suppress(InputError):  # of the input, which a video is, or which fails by itself
        before = read_header(job.source)
        try:
            after = read_header(job.target)
        except InputError:
            return "no image that can be read"
        if scale and (after.width, after.height) != (scale * before.width, scale * before.height):
            return f"not {scale} times as large as its input"
    return None


def _times(job: Job) -> tuple[int | None, int | None]:
    return modified(job.source), modified(job.target)


def modified(path: Path) -> int | None:
    """When a file was changed, in ns; None if it is missing."""
    status = _status(path)
    return status.st_mtime_ns if status else None


def _status(path: Path) -> os.stat_result | None:
    """None if the file is missing, or cannot be looked at."""
    with suppress(OSError):
        return path.stat()
    return None


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
