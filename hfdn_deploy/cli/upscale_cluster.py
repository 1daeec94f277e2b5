"""The command `hfdn upscale --cluster ray`, on a Ray cluster."""

import argparse
import logging
from contextlib import closing
from dataclasses import asdict, replace

from hfdn_deploy.cli.options import model_options
from hfdn_deploy.cli.process import report_failures
from hfdn_deploy.cli.upscale_options import (
    is_quiet,
    naming_options,
    say_what_is_kept,
    tell,
    warn_of_ignored,
    writing_options,
)
from hfdn_deploy.errors import InputError

logger = logging.getLogger(__name__)


def run_in_cluster(args: argparse.Namespace) -> None:
    """Upscale the images in folders or buckets; errors as for `hfdn upscale`."""
    from tqdm import tqdm

    from hfdn_deploy.files import Making

    try:
        from hfdn_deploy.cluster import ImageResult, plan, run
    except ModuleNotFoundError as error:
        raise InputError(
            f"--cluster ray needs {error.name}: pip install 'hfdn-deploy[ray]'"
        ) from None
    options, writing = model_options(args), writing_options(args)
    making = Making(options, writing)
    planned = plan(args.inputs, args.output, args.force, args.resume, making, naming_options(args))
    warn_of_ignored(args, planned.jobs)
    unusable, todo = planned.unusable, len(planned.jobs)
    number = todo + len(planned.done)
    say_what_is_kept(args, len(planned.done), number)
    if args.model:
        options = replace(options, model=args.model.absolute())  # workers run in other folders
    asked = {"cpus": args.cpus_per_worker, "gpus": args.gpus_per_worker}
    asked = {name: value for name, value in asked.items() if value is not None}
    done: list[ImageResult] = []
    failed = [ImageResult(one.name, "", str(one.error)) for one in unusable]
    backends: set[str] = set()
    with closing(run(planned, options, writing, workers=args.workers, **asked)) as results:
        hidden = is_quiet(args) or None  # None hides it unless stderr is a terminal
        for result in tqdm(results, total=todo, unit="file", disable=hidden):
            (failed if result.error else done).append(result)
            if result.backend and (name := f"{result.backend}, {result.precision}") not in backends:
                backends.add(name)
                logger.info("backend: %s", name)
    images, failures = [[asdict(one) for one in many] for many in (done, failed)]
    facts = {"cluster": "ray", "skipped": len(planned.done)}
    args.report |= {**facts, "images": images, "failures": failures}
    if failed and number + len(unusable) == 1:
        raise InputError(str(failed[0].error))
    tell(args, [f"{args.output}/{result.output}" for result in done])
    report_failures([failure.error for failure in failed], todo + len(unusable))
