"""Pairs of input and output file."""

import glob
import logging
import os
import stat
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from hfdn_deploy.errors import InputError
from hfdn_deploy.files.animation import is_animation
from hfdn_deploy.files.naming import DEFAULTS, Naming, is_suffix, mention_renamed, output_name
from hfdn_deploy.files.record import Records
from hfdn_deploy.files.sources import Source, Unusable, check_given, find_sources
from hfdn_deploy.images import FORMATS, IMAGE_SUFFIXES, check_format
from hfdn_deploy.video import check_video_format, is_video

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One image or video to upscale."""

    source: Path
    target: Path
    overwrite: bool = field(default=False, compare=False)
    """Whether an existing output may be replaced."""


def plan_jobs(
    inputs: Sequence[str], output: str, naming: Naming = DEFAULTS
) -> tuple[list[Job], list[Unusable]]:
    """Return the pairs of input and output file.

    Args:
        inputs: files, folders (the images in them, by suffix or content) and globs.
        output: a folder if it exists as one, ends in a slash or has no suffix; also if its suffix
            is not of a known format and the input is a folder, a glob or several; else a file.
        naming: which files of folders are inputs, and the names of outputs in a folder.

    Returns:
        The jobs, and the inputs without a job because they cannot be read, are empty or have no
        known format.

    Raises:
        InputError: an input or the output has an empty name, the only input gives no job, the
            output file has no known format, several inputs would write the same output (also on a
            file system that ignores case), or an output is one of the inputs.
    """
    check_given(inputs, output)
    sources, unusable = find_sources(inputs, naming.recursive, Path(output))
    if _is_folder(output, inputs):
        jobs = keep_names(_without_outputs(sources, output), Path(output), naming)
    else:
        check_file(output, naming)
        jobs = [Job(source.path, Path(output)) for source in sources]
        if len(sources) > 1:
            raise InputError(f"{output} is one file for {len(sources)} images; name a folder.")
        for job in jobs:
            _check_kinds(job)
    raise_alone(jobs, unusable)
    check_names(jobs)
    check_overwriting(jobs)
    return jobs, unusable


def check_file(output: str, naming: Naming) -> None:
    """Refuse options for outputs in a folder if the output is a file.

    Raises:
        InputError: a suffix is given, or a format other than the file's.
    """
    if naming.suffix:
        raise InputError(
            f"--suffix is for outputs in a folder, and {output} is a file; leave it out."
        )
    wanted, own = (FORMATS.get(s) for s in (naming.format or "", Path(output).suffix.lower()))
    if naming.format and wanted != own:
        raise InputError(f"{output} is not of format {naming.format}; give only one of them.")


def _without_outputs(sources: Sequence[Source], output: str) -> list[Source]:
    """Leave out outputs that earlier runs wrote beside their inputs (`-o photos` for photos)."""
    records = Records()
    folders = {(one.path.parent, Path(output) / one.folder) for one in sources if not one.named}
    shared = {folder for folder, target in folders if _same(folder, target)}
    kept = [
        one
        for one in sources
        if one.named or one.path.parent not in shared or not records.is_output(one.path)
    ]
    if len(kept) < len(sources):
        number = len(sources) - len(kept)
        logger.warning("%s: left out %d outputs of earlier runs", output, number)
    return kept


def _same(folder: Path, other: Path) -> bool:
    with suppress(OSError):
        return folder.samefile(other)
    return False


def raise_alone(jobs: Sequence[Job], unusable: Sequence[Unusable]) -> None:
    """Raise the error of an unusable input if it is the only input.

    Raises:
        HFDNError: the error of the only input.
    """
    if len(unusable) == 1 and not jobs:
        raise unusable[0].error


def _is_folder(output: str, inputs: Sequence[str]) -> bool:
    path = Path(output)
    if path.is_dir() or output.endswith(("/", os.sep)) or not is_suffix(path.suffix):
        return True
    if path.suffix.lower() in IMAGE_SUFFIXES or is_video(path):
        return False
    return len(inputs) > 1 or glob.has_magic(inputs[0]) or Path(inputs[0]).is_dir()


def keep_names(sources: Sequence[Source], folder: Path, naming: Naming = DEFAULTS) -> list[Job]:
    """Return jobs that write to a folder under the names of their inputs."""
    jobs = [Job(one.path, folder / one.folder / output_name(one.path, naming)) for one in sources]
    if naming.format is None:
        mention_renamed([(job.source, job.target) for job in jobs])
    return jobs


def _check_kinds(job: Job) -> None:
    """Refuse a target of unknown format, or a video for an image."""
    if is_video(job.source) or is_video(job.target):
        if not is_video(job.source) and not is_animation(job.source, job.target):
            raise InputError(f"{job.source} is not a video, so {job.target} must be an image.")
        check_video_format(job.target)
    else:
        check_format(job.target)


def check_names(jobs: Sequence[Job]) -> None:
    """Refuse several inputs for the same output.

    Raises:
        InputError: two inputs would write the same output.
    """
    taken: dict[str, Job] = {}
    for job in jobs:
        # Some systems ignore case, or how accents are encoded.
        name = unicodedata.normalize("NFC", str(job.target)).casefold()
        if name in taken:
            both = f"{taken[name].source} and {job.source}"
            alike = "" if taken[name].target == job.target else " on disks that ignore case"
            raise InputError(
                f"{both} would both become {job.target}{alike}; write them to different folders."
            )
        taken[name] = job


def check_overwriting(jobs: Sequence[Job]) -> None:
    """Refuse an output that is a folder, below a file, or an input, even by another name.

    Raises:
        InputError: an output is not usable for one of these reasons.
    """
    for folder in dict.fromkeys(job.target.parent for job in jobs):
        there = next(filter(os.path.lexists, (folder, *folder.parents)), None)
        if there and not there.is_dir():
            raise InputError(f"{there} is not a folder; name a folder, or a file such as x.png.")
    read = {_identity(status) for job in jobs if (status := _status(job.source))}
    for job in jobs:
        if status := _status(job.target):
            if stat.S_ISDIR(status.st_mode):
                raise InputError(f"{job.target} is a folder; move it away, or name another output.")
            if _identity(status) in read:
                raise InputError(f"{job.source} would overwrite an input; name another output.")


def _status(path: Path) -> os.stat_result | None:
    """Return the status of a file; None if it is missing or not accessible."""
    with suppress(OSError):
        return path.stat()
    return None


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
