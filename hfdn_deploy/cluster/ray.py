"""Upscaling of folders of images on a Ray cluster: `hfdn upscale --cluster ray`. Extra: ray.

    options = ModelOptions(model=4, precision="fp16")
    for result in run(plan(["s3://photos/2024"], "s3://photos/big"), options, gpus=0.25):
        print(result)

The outputs equal those of the same upscaler without a cluster, to the byte, unless it must choose
tiles by the free memory.
"""

import hashlib
import json
import logging
import math
import os
import signal
import socket
import tempfile
import threading
import time
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import ray
from ray.data import ActorPoolStrategy
from ray.exceptions import RayError
from ray.util.annotations import RayDeprecationWarning

from hfdn_deploy import errors
from hfdn_deploy.cluster.planning import Plan, plan
from hfdn_deploy.cluster.results import ImageResult
from hfdn_deploy.cluster.storage import Storage
from hfdn_deploy.errors import BackendError, HFDNError, InputError, first_line
from hfdn_deploy.files import Job, Making, Writing, upscale_bytes
from hfdn_deploy.options import ModelOptions
from hfdn_deploy.upscaler import Upscaler

__all__ = ["plan", "run"]

logger = logging.getLogger(__name__)

# Images in a worker's task, all of which are repeated if it dies: few, but enough to be worth Ray's
# overhead of milliseconds per task.
_BLOCK = 16
# How often a block is retried after its worker died.
_RETRIES = 3


def run(
    plan: Plan,
    options: ModelOptions,
    writing: Writing | None = None,
    *,
    workers: int | None = None,
    cpus: float = 1,
    gpus: float = 0,
) -> Generator[ImageResult]:
    """Upscale the images of a plan, and yield their results as they come, in any order.

    The cluster is the one that this process is connected to, or the one at $RAY_ADDRESS, or a new
    one on this machine that ends with the run. If a worker is killed, another repeats its images.
    An image that kills every worker counts as a failed image, as damaged images do.

    Args:
        plan: the jobs.
        options: options of the upscaler, which each worker opens once.
        writing: how the outputs are written.
        workers: number of workers; by default as many as the cluster has room for.
        cpus: cores for a worker, which on a CPU computes in as many threads.
        gpus: GPUs for a worker; several workers share a GPU if it is less than 1.

    Raises:
        InputError: a number is out of range, or the list of results cannot be written.
        BackendError: there is no cluster, it has no room for a worker, or the backend failed.
        HFDNError: as `Upscaler.open`.
    """
    if cpus <= 0 or gpus < 0 or (workers is not None and workers < 1):
        some = "" if workers is None else f"{workers} "
        raise InputError(
            f"{some}workers of {cpus:g} cores and {gpus:g} GPUs are impossible; choose at least "
            "1 worker, cores above 0 and GPUs not below 0."
        )
    results = plan.results
    writing = writing or Writing()
    worker = _Worker(options, plan.source, plan.target, writing)
    todo = {job.target.name: job for job in plan.jobs}
    try:
        results.adopt(plan.done, plan.source)
        if not todo:
            return
        with _cluster(workers and math.ceil(workers * cpus)):
            room = _room(cpus, gpus)
            number = min(workers or room, len(todo))
            unfinished = plan.unfinished(Making(options, writing))
            results.begin(unfinished.values())
            # Images in the block of a deadly image fail with it, so the rest is retried one by one.
            for alone in (False, True):
                before = len(todo)
                for result in _stream(worker, list(todo.values()), number, cpus, gpus, alone):
                    if todo.pop(result.output, None):
                        if result.error is None:
                            result = replace(result, made=unfinished[result.output].made)
                        results.add(result)
                        yield result
                if len(todo) in (0, before):
                    break
        for job in todo.values():
            name = plan.source.name(job.source)
            error = f"{name}: every worker that took it died; try it alone with --cluster local."
            result = ImageResult(name, job.target.name, error)
            results.add(result)
            yield result
    finally:
        results.save()
        plan.target.tidy(results.folder)


def _stream(
    worker: "_Worker", jobs: list[Job], number: int, cpus: float, gpus: float, alone: bool
) -> Iterator[ImageResult]:
    """Yield results as they come; jobs whose workers died have none."""
    block = 1 if alone else max(1, min(_BLOCK, len(jobs) // (4 * number)))
    rows = [
        {"source": str(job.source), "target": str(job.target), "overwrite": job.overwrite}
        for job in jobs
    ]
    data = ray.data.from_items(rows, override_num_blocks=math.ceil(len(rows) / block))
    data.context.enable_progress_bars = False
    data.context.max_errored_blocks = -1  # blocks whose worker died do not end the run
    pool = ActorPoolStrategy(size=number, max_tasks_in_flight_per_actor=1 if alone else 2)
    with warnings.catch_warnings():
        # Ray has no other way to limit retries, and would otherwise retry forever.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        # Reading mostly waits, so it needs no CPU; it runs ahead of the workers as far as Ray's
        # memory allows.
        data = data.map(worker.read, num_cpus=0, concurrency=number)
        data = data.map(
            _Actor,
            fn_constructor_args=(worker,),
            compute=pool,
            num_cpus=cpus,
            num_gpus=gpus,
            max_task_retries=_RETRIES,
        )
    try:
        for row in data.iter_rows():
            found = json.loads(row["result"])
            if "fatal" in found:
                raise getattr(errors, found["fatal"])(found["error"])
            yield ImageResult(**found)
    except RayError as error:
        raise BackendError(f"the cluster failed ({first_line(error)}); see Ray's logs.") from None


class _Worker:
    """The work on an image in the cluster: read, upscale, write; can be pickled."""

    def __init__(
        self, options: ModelOptions, source: Storage, target: Storage, writing: Writing
    ) -> None:
        self._options = options
        self._source = source
        self._target = target
        self._writing = writing

    @cached_property
    def _up(self) -> Upscaler:
        return Upscaler.open(self._options)

    def read(self, row: dict[str, Any]) -> dict[str, Any]:
        """Add the content of the image's file to a row, or the error."""
        try:
            return {**row, "data": self._source.read(Path(row["source"])), "error": ""}
        except InputError as error:
            return {**row, "data": b"", "error": str(error)}

    def upscale(self, row: dict[str, Any]) -> dict[str, str]:
        """Upscale and write an image; return the JSON of an `ImageResult` or of a fatal error."""
        source, target = Path(row["source"]), Path(row["target"])
        facts: dict[str, Any] = {"input": self._source.name(source), "output": target.name}
        try:
            up = self._up
        except HFDNError as error:
            return _fatal(error)
        try:
            if row["error"]:
                raise InputError(row["error"])
            start = time.perf_counter()
            names = facts["input"], self._target.name(target)
            image, header = upscale_bytes(up, row["data"], *names, self._writing)
            self._target.write(target, image, overwrite=row["overwrite"])
            written = self._target.facts(target)
            width, height = up.target.of(header.width, header.height)
            facts |= {
                "width": width,
                "height": height,
                "bytes": len(image),
                "sha256": hashlib.sha256(image).hexdigest(),
                "modified": written.microseconds if written else None,
                "input_bytes": len(row["data"]),
                "seconds": round(time.perf_counter() - start, 4),
                "backend": up.backend.name,
                "precision": up.backend.precision,
            }
        except InputError as error:
            facts["error"] = str(error)
        except HFDNError as error:
            return _fatal(error)
        return {"result": json.dumps(facts)}


class _Actor:
    """A worker in its own process, in the form that Ray Data requires."""

    def __init__(self, worker: _Worker) -> None:
        self._worker = worker

    def __call__(self, row: dict[str, Any]) -> dict[str, str]:
        return self._worker.upscale(row)


def _fatal(error: HFDNError) -> dict[str, str]:
    return {"result": json.dumps({"fatal": type(error).__name__, "error": str(error)})}


@contextmanager
def _cluster(cpus: int | None) -> Iterator[None]:
    """Connect to a cluster for the length of the block; see `run`.

    Args:
        cpus: CPUs of a new cluster on this machine; None for all.
    """
    quiet = logging.getLogger("ray.data")
    level = quiet.level
    quiet.setLevel(logging.CRITICAL)  # the results report dead workers
    if ray.is_initialized():
        try:
            yield
        finally:
            quiet.setLevel(level)
        return
    handler = signal.getsignal(signal.SIGTERM)
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        try:
            _connect(cpus, folder)
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, handler)  # Ray's handler exits without a clean-up
            yield
        finally:
            ray.shutdown()
            quiet.setLevel(level)


def _connect(cpus: int | None, folder: str) -> None:
    """Connect to the cluster at $RAY_ADDRESS, or to a new one on this machine."""
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    address = os.environ.get("RAY_ADDRESS", "local")
    if address == "local":
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options |= {"num_cpus": cpus, "include_dashboard": False, "_temp_dir": folder}
    host, _, port = address.rpartition(":")
    try:
        if port.isdecimal() and "://" not in address:
            # Ray itself would retry for 15 minutes.
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address, **options)
    except (OSError, RuntimeError) as error:
        raise BackendError(
            f"there is no Ray cluster at {address} ({first_line(error)}); check $RAY_ADDRESS."
        ) from None


def _room(cpus: float, gpus: float) -> int:
    """Return the number of workers that the machines of the cluster can hold.

    Raises:
        BackendError: no machine can hold a worker.
    """
    room = 0
    for node in ray.nodes():
        own = node["Resources"]
        by_gpu = own.get("GPU", 0) / gpus if gpus else math.inf
        room += int(min(own.get("CPU", 0) / cpus, by_gpu)) if node["Alive"] else 0
    if not room:
        raise BackendError(
            f"no machine of the cluster has {cpus:g} cores and {gpus:g} GPUs for a worker; request "
            "fewer, or add a machine."
        )
    return room
