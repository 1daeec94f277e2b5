"""Plans: which images of a folder or bucket are upscaled to which outputs."""

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
    """The jobs of a run and their storages; result of `plan`."""

    source: Storage
    target: Storage
    jobs: list[Job]
    """The jobs to do."""
    inputs: dict[Path, FileFacts | None]
    """All inputs; None for a missing file."""
    outputs: dict[Path, FileFacts]
    """The files in the output folder before the run."""
    done: dict[Job, FileFacts]
    """The jobs that are already done, and their outputs."""
    unusable: list[Unusable]
    """Inputs that give no job."""
    results: Results

    def unfinished(self, making: Making) -> dict[str, ImageResult]:
        """Return the records, by output, that remain for images if the run is killed."""
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
    """Find the images and name their outputs, before anything is written.

    Args:
        inputs: on a disk: files, folders (the images directly in them) and globs; in an object
            store: URIs of folders and files. All in one storage, which every worker must reach.
        output: a folder or its URI.
        force: allow overwriting existing outputs; with `resume`, only outputs that are not done.
        resume: skip images whose output is done, see `pending_jobs`.
        making: the options that will make the outputs; None to accept outputs made with any.
        naming: the names of outputs; by default those of their inputs.

    Raises:
        InputError: a name is empty, a single input gives no job, an input is a video, inputs are
            in several storages or in an unreadable store, two images would write the same output,
            or outputs exist that may not be overwritten.
    """
    check_given(inputs, output)
    target, folder = locate(output)
    if folder.suffix.lower() in IMAGE_SUFFIXES and not folder.is_dir():
        raise InputError(f"{output} is a file; a cluster writes to a folder, so name a folder.")
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
        raise InputError(f"{output} holds inputs, which would be overwritten; name another folder.")
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
    """Return the inputs' storage, their images with file facts, and the unusable inputs."""
    places = [locate(name) for name in inputs]
    source = places[0][0]
    if any(storage != source for storage, _ in places):
        raise InputError("the inputs are in several storages; run each storage separately.")
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
