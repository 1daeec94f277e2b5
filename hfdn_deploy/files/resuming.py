"""Jobs that are done already, and outputs that may be replaced."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from hfdn_deploy.errors import InputError
from hfdn_deploy.files.planning import Job
from hfdn_deploy.files.record import Entry, FileFacts, Made, Records, file_facts

State = tuple[FileFacts | None, FileFacts | None, Entry | None]
"""A job's input and output, and the record's entry of the output; None where missing."""


def pending_jobs(
    jobs: Sequence[Job],
    force: bool,
    resume: bool,
    makes: Callable[[Path], Made] | None = None,
    states: Callable[[Job], State] | None = None,
) -> list[Job]:
    """Return the jobs still to be done, before anything is written.

    Args:
        jobs: from `plan_jobs`.
        force: existing outputs may be overwritten; with `resume`, those that are not done.
        resume: leave out jobs whose output is done: not older than its input, and unchanged since
            it was made from an input of this size with the facts of `makes`.
        makes: `Making.facts`; None to compare only the times of outputs and inputs.
        states: returns the state of a job; by default from the disk and the folders' records.

    Raises:
        InputError: an output exists and may not be overwritten.
    """
    states = states or _states_on_disk()
    pending: list[Job] = []
    refused: list[tuple[Job, str]] = []
    for job in jobs:
        source, target, entry = states(job)
        if source and target:
            reason: str | None = "there already"
            if resume:
                made = makes(job.target) if makes else None
                reason = _why_not_done(source, target, entry, made)
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


def is_done(job: Job, makes: Callable[[Path], Made]) -> bool:
    """Return whether `pending_jobs` would leave a job out with `resume`."""
    source, target, entry = _states_on_disk()(job)
    made = makes(job.target)
    return bool(source and target and _why_not_done(source, target, entry, made) is None)


def _states_on_disk() -> Callable[[Job], State]:
    records = Records()
    return lambda job: (
        file_facts(job.source), file_facts(job.target), records.entry(job.target)
    )  # fmt: skip


def _why_not_done(
    source: FileFacts, target: FileFacts, entry: Entry | None, made: Made | None
) -> str | None:
    """Return why an existing output is not done; None if it is. Outputs are always complete."""
    if target.modified < source.modified:
        return "older than its input"
    if made is None:
        return None
    if entry is None:
        return "not known to be done"
    if not entry.is_of(target):
        return "changed since it was made"
    if entry.input_bytes != source.bytes:
        return "made from another input"
    for name in {**made, **entry.made}:
        old, new = entry.made.get(name), made.get(name)
        if old != new:
            if name == "model":
                return "made with another model"
            return f"made with {name.replace('_', ' ')} {_text(old)}, not {_text(new)}"
    return None


def _text(value: object) -> str:
    return "the default" if value is None else str(value)
