"""Which jobs are done already, and which outputs may be replaced."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from hfdn_deploy.errors import InputError
from hfdn_deploy.files.planning import Job
from hfdn_deploy.files.record import Entry, FileFacts, Made, Records, file_facts

State = tuple[FileFacts | None, FileFacts | None, Entry | None]
"""A job's input and output, None where missing, and what is known of how the output was made."""


def pending_jobs(
    jobs: Sequence[Job],
    force: bool,
    resume: bool,
    makes: Callable[[Path], Made] | None = None,
    states: Callable[[Job], State] | None = None,
) -> list[Job]:
    """Those still to be done, before anything is written.

    Args:
        jobs: from `plan_jobs`.
        force: outputs that exist may be overwritten; if `resume`, those that are not done.
        resume: leave out jobs whose output is done: it is no older than its input, and known to be
            as it was when it was made, from an input of this size by what `makes` gives.
        makes: `Making.facts`; None if outputs that are no older than their inputs are done.
        states: says what is there; by default the disk and the records of the folders are asked.

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
    """Whether a run that resumes leaves a job out; the arguments are as in `pending_jobs`."""
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
    """Why an output, which is there and never half of one, is not done; None if it is."""
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
