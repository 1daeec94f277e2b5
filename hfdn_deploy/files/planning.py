"""Which files are upscaled to which."""

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
    """Whether an output that is there may be replaced."""


def plan_jobs(
    inputs: Sequence[str], output: str, naming: Naming = DEFAULTS
) -> tuple[list[Job], list[Unusable]]:
    """Pairs of input and output file.

    Args:
        inputs: files, folders (the images in them, by suffix or content) and globs.
        output: a folder if it is one or ends in a slash, or if it has no suffix of a format and
            is for several inputs or for a folder; else a file.
        naming: which files of folders are taken, and what the outputs in a folder are called.

    Returns:
        The jobs, and the inputs that give none because they cannot be read, are empty or of no
        known format.

    Raises:
        InputError: an input or the output has an empty name, there is one input and it gives no
            job, the output is a file of no known format, several inputs would become one output
            (on a file system that ignores case, too), or an output is one of the inputs.
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
    """Refuse options that are for a folder's outputs where the output is a file.

    Raises:
        InputError: there is a suffix, or another format.
    """
    if naming.suffix:
        raise InputError(f"--suffix is for outputs in a folder, and {output} is a file; leave it.")
    wanted, own = (FORMATS.get(s) for s in (naming.format or "", Path(output).suffix.lower()))
    if naming.format and wanted != own:
        raise InputError(f"{output} is not of format {naming.format}; name one of the two.")


def _without_outputs(sources: Sequence[Source], output: str) -> list[Source]:
    """Leave out what earlier runs wrote beside its inputs: `-o photos` for the folder photos."""
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
        logger.warning("%s: %d outputs of earlier runs are not upscaled again", output, number)
    return kept


def _same(folder: Path, other: Path) -> bool:
    with suppress(OSError):
        return folder.samefile(other)
    return False


def raise_alone(jobs: Sequence[Job], unusable: Sequence[Unusable]) -> None:
    """Raise the error of an unusable input if there is nothing else.

    Raises:
        HFDNError: that one.
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
    """Jobs that write to a folder under the names of their inputs."""
    jobs = [Job(one.path, folder / one.folder / output_name(one.path, naming)) for one in sources]
    if naming.format is None:
        mention_renamed([(job.source, job.target) for job in jobs])
    return jobs


def _check_kinds(job: Job) -> None:
    """Refuse a target of no known format, or a video for an image."""
    if is_video(job.source) or is_video(job.target):
        if not is_video(job.source) and not is_animation(job.source, job.target):
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
            alike = "" if taken[name].target == job.target else " on disks that ignore case"
            raise InputError(
                f"{both} would both become {job.target}{alike}; write them to different folders."
            )
        taken[name] = job


def check_overwriting(jobs: Sequence[Job]) -> None:
    """Refuse an output that is a folder, in a file, or an input, be it by another name.

    Raises:
        InputError: an output is one of these.
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
    """None if the file is missing, or cannot be looked at."""
    with suppress(OSError):
        return path.stat()
    return None


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
