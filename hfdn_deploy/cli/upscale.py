"""The command `hfdn upscale`, on this machine or on a cluster."""

import argparse
import logging
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from hfdn_deploy.cli.options import model_options
from hfdn_deploy.cli.process import report_failures
from hfdn_deploy.cli.upscale_options import (
    add_arguments,
    image_facts,
    is_quiet,
    model_facts,
    naming_options,
    say_what_is_kept,
    tell,
    warn_of_ignored,
    writing_options,
)
from hfdn_deploy.errors import InputError

__all__ = ["add_arguments", "run"]

logger = logging.getLogger(__name__)


def run(args: argparse.Namespace) -> None:
    """Upscale the files and report the outcome.

    Raises:
        InputError: an option does not fit --cluster, or an input or output is not usable.
        PartialError: some of several files failed.
        HFDNError: the model cannot be opened or the backend failed.
    """
    if args.engine:
        logger.warning("--engine %s is now --cluster %s.", args.engine, args.engine)
        if args.cluster not in (None, args.engine):
            raise InputError("--engine is the old name of --cluster; give --cluster alone.")
        args.cluster = args.engine
    if args.cluster == "ray":
        if args.batch != 1:
            raise InputError("--batch is for --cluster local; leave it out.")
        if args.recursive:
            raise InputError("--recursive is for --cluster local; name every folder.")
        if "-" in args.inputs:
            raise InputError("- (stdin) is for --cluster local; name files or folders.")
        if args.precision == "auto":
            raise InputError(
                "--precision auto is for --cluster local, as machines may differ; name a precision."
            )
        from hfdn_deploy.cli.upscale_cluster import run_in_cluster

        run_in_cluster(args)
        return
    for name in ("workers", "cpus_per_worker", "gpus_per_worker"):
        if getattr(args, name) is not None:
            raise InputError(f"--{name.replace('_', '-')} is for --cluster ray; leave it out.")
    for name in (*args.inputs, args.output):
        if "://" in name:
            raise InputError(f"{name} is a URI, not a path; add --cluster ray to use URIs.")
    if "-" in (*args.inputs, args.output):
        from hfdn_deploy.cli.upscale_pipes import run_through_pipes

        run_through_pipes(args)
        return
    with ExitStack() as opened:
        _run_here(args, opened)


def _run_here(args: argparse.Namespace, opened: ExitStack) -> None:
    from hfdn_deploy.cli.progress import run_progress
    from hfdn_deploy.files import (
        Done,
        Making,
        is_done,
        pending_jobs,
        plan_jobs,
        record_output,
        run_jobs,
    )
    from hfdn_deploy.upscaler import Upscaler

    planned, unusable = plan_jobs(args.inputs, args.output, naming_options(args))
    options, up = model_options(args), None
    if options.precision == "auto":
        up = opened.enter_context(Upscaler.open(options))
        options = replace(options, precision=up.backend.precision)  # for the record
    making = Making(options, writing_options(args))
    jobs = pending_jobs(planned, args.force, args.resume, making.facts)
    # A folder always gets a record; a single output only with --resume, which reads it.
    recorded = args.resume or not (len(planned) == 1 and Path(args.output) == planned[0].target)
    say_what_is_kept(args, len(planned) - len(jobs), len(planned))
    warn_of_ignored(args, jobs)
    done, skipped = [], len(planned) - len(jobs)
    failed = [(one.name, one.error) for one in unusable]
    facts: dict[str, Any] = dict.fromkeys(("backend", "choice", "precision", "scale"))
    if jobs:
        up = up or opened.enter_context(Upscaler.open(options))
        with run_progress(jobs, is_quiet(args)) as bars:
            show = bars.show if bars else None
            for result in run_jobs(up, jobs, making.writing, args.batch, show):
                job = result.job
                if isinstance(result, Done):
                    done.append(result)
                    if recorded:
                        record_output(job.source, job.target, making.facts(job.target))
                elif args.resume and is_done(job, making.facts):
                    skipped += 1  # a run beside this one wrote it first
                else:
                    failed.append((str(job.source), result.error))
                if bars:
                    bars.finish(result)
            facts = model_facts(up)  # after the run, as images choose the networks
    args.report |= {
        **facts,
        "skipped": skipped,
        "images": [image_facts(result) for result in done],
        "failures": [{"input": name, "error": str(error)} for name, error in failed],
    }
    if failed and len(planned) + len(unusable) == 1:
        raise failed[0][1]
    tell(args, [str(result.job.target) for result in done])
    report_failures([error for _, error in failed], len(jobs) + len(unusable))
