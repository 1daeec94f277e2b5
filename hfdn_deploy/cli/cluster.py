"""`hfdn upscale --engine ray`."""

import argparse
import json
import logging
from contextlib import closing
from dataclasses import asdict
from functools import partial

from tqdm import tqdm

from hfdn_deploy.cli.process import report_failures
from hfdn_deploy.errors import InputError
from hfdn_deploy.upscaler import Upscaler

logger = logging.getLogger(__name__)


def add_arguments(upscale: argparse.ArgumentParser) -> None:
    """Those of `hfdn upscale` that are for clusters."""
    upscale.add_argument(
        "--engine", choices=("local", "ray"), default="local",
        help="ray: in a cluster, of this machine or at $RAY_ADDRESS; IN and OUT may be s3:// URIs",
    )  # fmt: skip
    upscale.add_argument("--workers", type=int, help="of ray (default: as many as fit)")
    upscale.add_argument("--cpus-per-worker", type=float, help="cores (default: 1)")
    upscale.add_argument("--gpus-per-worker", type=float, help="0.25 for 4 a GPU (default: 0)")


def check_engine(args: argparse.Namespace) -> None:
    """Refuse what is for the other engine.

    Raises:
        InputError: so it is.
    """
    if args.engine == "ray":
        if args.batch != 1:
            raise InputError("--batch is for --engine local; leave it out.")
        return
    for name in ("workers", "cpus_per_worker", "gpus_per_worker"):
        if getattr(args, name) is not None:
            raise InputError(f"--{name.replace('_', '-')} is for --engine ray; leave it out.")
    for name in (*args.inputs, args.output):
        if "://" in name:
            raise InputError(f"{name} is no path; --engine ray reads and writes URIs.")


def upscale_in_cluster(args: argparse.Namespace) -> None:
    """Plan, run and report.

    Raises:
        InputError: Ray is not installed, or what `plan` and `run` refuse.
        PartialError: some images failed.
        HFDNError: as `run`.
    """
    try:
        from hfdn_deploy.cluster import ImageResult, plan, run
    except ModuleNotFoundError as error:
        raise InputError(
            f"--engine ray needs {error.name}: pip install 'hfdn-deploy[ray]'"
        ) from None
    planned = plan(args.inputs, args.output, args.force, args.resume)
    number, todo = len(planned.jobs) + len(planned.done), len(planned.jobs)
    if planned.done:
        logger.info("%d of %d are done already", len(planned.done), number)
    scale = 4 if args.scale is None else args.scale
    load = partial(
        Upscaler.load, args.model.absolute() if args.model else scale, args.backend,
        args.precision, args.ensemble, args.allow_ungated, args.trust, args.tile, args.max_memory,
    )  # fmt: skip
    asked = {"cpus": args.cpus_per_worker, "gpus": args.gpus_per_worker}
    asked = {name: value for name, value in asked.items() if value is not None}
    options = {"workers": args.workers, "quality": args.quality, **asked}
    done: list[ImageResult] = []
    failed: list[ImageResult] = []
    backends: set[str] = set()
    with closing(run(planned, load, keep_metadata=args.keep_metadata, **options)) as results:
        for result in tqdm(results, total=todo, unit="file", disable=None):
            (failed if result.error else done).append(result)
            if result.backend and (name := f"{result.backend}, {result.precision}") not in backends:
                backends.add(name)
                logger.info("backend: %s", name)
    if failed and number == 1:
        raise InputError(str(failed[0].error))
    if args.json:
        images, failures = [[asdict(one) for one in many] for many in (done, failed)]
        facts = {"engine": "ray", "skipped": len(planned.done)}
        print(json.dumps({**facts, "images": images, "failures": failures}, indent=1))
    report_failures([failure.error for failure in failed], todo)
