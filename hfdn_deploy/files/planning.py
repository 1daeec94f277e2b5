"""Which files are upscaled to which."""

import glob
import logging
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hfdn_deploy.errors import InputError
from hfdn_deploy.images import check_format, find_images
from hfdn_deploy.video import check_video_format, is_video

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One image or video to upscale."""

    source: Path
    target: Path


Times = Callable[[Job], tuple[int | None, int | None]]
"""Gives the times, in ns, at which a job's input and output were changed; None where missing."""


def plan_jobs(inputs: Sequence[str], output: Path) -> list[Job]:
    """Pairs of input and output file.

    Args:
        inputs: files, folders (the images directly in them) and globs.
        output: an existing folder; else a file if it has a suffix, or a folder to make.

    Raises:
        InputError: nothing to do, an output of no known format, several inputs for one output
            (on a file system that ignores case, too), or an output that is one of the inputs.
    """
    sources = find_sources(inputs)
    into_file = bool(output.suffix) and not output.is_dir()
    if into_file and len(sources) > 1:
        raise InputError(f"{output} is one file for {len(sources)} images; name a folder.")
    jobs = [Job(source, output if into_file else output / source.name) for source in sources]
    check_names(jobs)
    check_overwriting(jobs)
    return jobs


def find_sources(inputs: Sequence[str]) -> list[Path]:
    """The files behind names; see `plan_jobs`.

    Raises:
        InputError: there are none.
    """
    sources: list[Path] = []
    for name in inputs:
        path = Path(name)
        if path.is_dir():
            sources += find_images(path)
            if videos := sum(map(is_video, path.iterdir())):
                logger.warning("%s: videos in it are left out (%d); name them", path, videos)
        elif not path.exists() and glob.has_magic(name):
            sources += sorted(map(Path, glob.glob(name, recursive=True)))  # noqa: PTH207
        else:
            sources.append(path)
    if not sources:
        raise InputError(f"no image in {', '.join(inputs)}; name files, folders or globs.")
    return sources


def check_names(jobs: Sequence[Job]) -> None:
    """Refuse outputs of unknown formats and several inputs for one output.

    Raises:
        InputError: so it is.
    """
    taken: dict[str, Job] = {}
    for job in jobs:
        if is_video(job.source) or is_video(job.target):
            check_video_format(job.source)
            check_video_format(job.target)
        else:
            check_format(job.target)
        # Names that differ in case or accents' encoding alone are one file on some systems.
        name = unicodedata.normalize("NFC", str(job.target)).casefold()
        if name in taken:
            both = f"{taken[name].source} and {job.source}"
            raise InputError(f"{both} would both become {job.target}; name other folders.")
        taken[name] = job


def check_overwriting(jobs: Sequence[Job]) -> None:
    """Refuse an output that is a folder, or an input, be it by another name.

    Raises:
        InputError: so it is.
    """
    read = {_identity(job.source) for job in jobs if job.source.exists()}
    for job in jobs:
        if job.target.is_dir():
            raise InputError(f"{job.target} is a folder; move it away, or name another output.")
        if job.target.exists() and _identity(job.target) in read:
            raise InputError(f"{job.source} would overwrite an input; name another output.")


def pending_jobs(
    jobs: Sequence[Job], force: bool, resume: bool, times: Times | None = None
) -> list[Job]:
    """Those still to be done, before anything is written.

    Args:
        jobs: from `plan_jobs`.
        force: outputs that exist may be overwritten.
        resume: leave out jobs whose output exists and is no older than its input.
        times: says when input and output were changed; by default their files are asked.

    Raises:
        InputError: an output exists and may not be overwritten.
    """
    times = times or _times
    if resume:
        jobs = [job for job in jobs if not _is_done(*times(job))]
    existing = [job.target for job in jobs if times(job)[1] is not None]
    if existing and not force:
        others = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        kind = "older than its input" if resume else "there already"
        advice = "" if resume else ", --resume skips what is done"
        raise InputError(f"{existing[0]}{others}: {kind}; --force overwrites{advice}.")
    return list(jobs)


def _is_done(source: int | None, target: int | None) -> bool:
    """Whether the output is there, which is never half of one, and no older than the input."""
    return source is not None and target is not None and target >= source


def _times(job: Job) -> tuple[int | None, int | None]:
    return modified(job.source), modified(job.target)


def modified(path: Path) -> int | None:
    """When a file was changed, in ns; None if it is missing."""
    with suppress(OSError):
        return path.stat().st_mtime_ns
    return None


def _identity(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_dev, stat.st_ino
