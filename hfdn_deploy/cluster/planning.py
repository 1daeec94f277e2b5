"""Which images of a folder or bucket are upscaled to which."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hfdn_deploy.cluster.results import UNFINISHED, ImageResult, Results
from hfdn_deploy.cluster.storage import DISK, Storage, locate
from hfdn_deploy.errors import InputError
from hfdn_deploy.files import (
    Entry,
    FileFacts,
    Job,
    Making,
    Naming,
    Source,
    Unusable,
    check_given,
    check_names,
    check_overwriting,
    file_facts,
    find_sources,
    keep_names,
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
    inputs: dict[Path, FileFacts | None]
    """All inputs; None for those that are missing."""
    outputs: dict[Path, FileFacts]
    """What was in the folder before."""
    done: dict[Job, FileFacts]
    """Those that are left out, and their outputs."""
    unusable: list[Unusable]
    """Inputs that give no job."""
    results: Results

    def unfinished(self, making: Making) -> dict[str, ImageResult]:
        """What is to be known of each image if the run is killed, by output."""
        found: dict[str, ImageResult] = {}
        for job in self.jobs:
            source, before = self.inputs[job.source], self.outputs.get(job.target)
            found[job.target.name] = ImageResult(
                self.source.name(job.source),
                job.target.name,
                UNFINISHED,
                bytes=before.bytes if before else None,
                modified=before.microseconds if before else None,
                input_bytes=source.bytes if source else None,
                made=making.facts(job.target),
            )
        return found


def plan(
    inputs: Sequence[str],
    output: str,
    force: bool = False,
    resume: bool = False,
    making: Making | None = None,
    naming: Naming | None = None,
) -> Plan:
    """Find the images, before anything is written.

    Args:
        inputs: on a disk: files, folders (the images directly in them) and globs; in an object
            store: URIs of folders and files. All in one storage, which every worker must see.
        output: a folder or the URI of one.
        force: outputs that exist may be overwritten; if `resume`, those that are not done.
        resume: leave out images whose output is done, see `pending_jobs`.
        making: what is going to make the outputs; None if outputs of any making are done.
        naming: what outputs are called; by default as their inputs.

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
    source, found, unusable = _sources(inputs)
    jobs = keep_names([Source(path) for path in found], folder, naming or Naming())
    raise_alone(jobs, unusable)
    for job in jobs:
        if is_video(job.source):
            raise InputError(f"{job.source} is a video; upscale videos with --cluster local.")
    check_names(jobs)
    if source == target == DISK:
        check_overwriting(jobs)
    elif source == target and folder in {path.parent for path in found}:
        raise InputError(f"{output} holds inputs, which would be overwritten; name another.")
    outputs, results = target.listing(folder), Results(target, folder)

    def states(job: Job) -> tuple[FileFacts | None, FileFacts | None, Entry | None]:
        made = outputs.get(job.target)
        return found[job.source], made, results.entry(job.target, made)

    makes = making.facts if making else None
    pending = pending_jobs(jobs, force, resume, makes, states)
    left = set(pending)
    done = {job: outputs[job.target] for job in jobs if job not in left}
    return Plan(source, target, pending, found, outputs, done, unusable, results)


def _sources(inputs: Sequence[str]) -> tuple[Storage, dict[Path, FileFacts | None], list[Unusable]]:
    """The images behind names, what is known of them, and the names that stand for none."""
    places = [locate(name) for name in inputs]
    source = places[0][0]
    if any(storage != source for storage, _ in places):
        raise InputError("the inputs are in several storages; give each a run of its own.")
    paths = [path for _, path in places]
    if source == DISK:
        files, unusable = find_sources([str(p) for p in paths])
        return source, {one.path: file_facts(one.path) for one in files}, unusable
    images: dict[Path, FileFacts | None] = {}
    unusable = []
    for name, path in zip(inputs, paths, strict=True):
        found = source.images(path)
        images |= found
        if not found:
            error = InputError(f"no image in {name}; name folders or files.")
            unusable.append(Unusable(name, error))
    return source, images, unusable
