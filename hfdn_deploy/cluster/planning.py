"""Which images of a folder or bucket are upscaled to which."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hfdn_deploy.cluster.results import Results
from hfdn_deploy.cluster.storage import DISK, FileFacts, Storage, locate
from hfdn_deploy.errors import InputError
from hfdn_deploy.files import (
    Job,
    Unusable,
    check_given,
    check_names,
    check_overwriting,
    find_sources,
    keep_names,
    modified,
    pending_jobs,
    raise_alone,
)
from hfdn_deploy.images import IMAGE_SUFFIXES
from hfdn_deploy.video import is_video


@dataclass(frozen=True)
class Plan:
    """What is to be done, and where; from `plan`."""

    source: Storage
    target: Storage
    jobs: list[Job]
    """Those still to be done."""
    done: dict[Job, FileFacts]
    """Those that are left out, and their outputs."""
    unusable: list[Unusable]
    """Inputs that give no job."""
    results: Results


def plan(
    inputs: Sequence[str],
    output: str,
    force: bool = False,
    resume: bool = False,
    scale: int | None = None,
) -> Plan:
    """Find the images, before anything is written.

    Args:
        inputs: on a disk: files, folders (the images directly in them) and globs; in an object
            store: URIs of folders and files. All in one storage, which every worker must see.
        output: a folder or the URI of one; names are kept.
        force: outputs that exist may be overwritten; if `resume`, those that are not done.
        resume: leave out images whose output is done: it is no older than its input and, where
            both are on a disk, `scale` times as large.
        scale: of the model; None if outputs of any size are done.

    Raises:
        InputError: an empty name, one input that gives no job, videos, several storages, a store
            that cannot be read, several images for one output, or outputs that exist and may not
            be overwritten.
    """
    check_given(inputs, output)
    target, folder = locate(output)
    if folder.suffix.lower() in IMAGE_SUFFIXES and not folder.is_dir():
        raise InputError(f"{output} is a file; a cluster fills a folder, so name one.")
    target.check_writable(folder)
    source, changed, unusable = _sources(inputs)
    jobs, others = keep_names(list(changed), folder)
    unusable += others
    raise_alone(jobs, unusable)
    for job in jobs:
        if is_video(job.source):
            raise InputError(f"{job.source} is a video; upscale videos with --cluster local.")
    check_names(jobs)
    if source == target == DISK:
        check_overwriting(jobs)
    elif source == target and folder in {path.parent for path in changed}:
        raise InputError(f"{output} holds inputs, which would be overwritten; name another.")
    outputs = target.listing(folder)

    def times(job: Job) -> tuple[int | None, int | None]:
        made = outputs.get(job.target)
        return changed[job.source], made.modified if made else None

    pending = pending_jobs(jobs, force, resume, times, scale if source == target == DISK else None)
    left = set(pending)
    done = {job: outputs[job.target] for job in jobs if job not in left}
    return Plan(source, target, pending, done, unusable, Results(target, folder))


def _sources(inputs: Sequence[str]) -> tuple[Storage, dict[Path, int | None], list[Unusable]]:
    """The images behind names, when they were changed, and the names that stand for none."""
    places = [locate(name) for name in inputs]
    source = places[0][0]
    if any(storage != source for storage, _ in places):
        raise InputError("the inputs are in several storages; give each a run of its own.")
    paths = [path for _, path in places]
    if source == DISK:
        files, unusable = find_sources([str(p) for p in paths])
        return source, {path: modified(path) for path in files}, unusable
    images: dict[Path, int | None] = {}
    unusable = []
    for name, path in zip(inputs, paths, strict=True):
        found = source.images(path)
        images |= {image: facts.modified for image, facts in found.items()}
        if not found:
            error = InputError(f"no image in {name}; name folders or files.")
            unusable.append(Unusable(name, error))
    return source, images, unusable
