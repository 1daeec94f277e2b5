"""Checks of files, each in its own process, so that no file can stop the others."""

import json
import logging
import multiprocessing
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.suites.results import Result

Check = Callable[[Path], Result]
"""A function of a module, or a partial of it, because it is sent to other processes."""


@dataclass(frozen=True)
class _Running:
    path: Path
    process: BaseProcess
    output: Path
    end: float


def check_all(
    paths: Sequence[Path], check: Check, jobs: int = 2, seconds: float = 600
) -> Iterator[Result]:
    """Check files, `jobs` at a time, and yield the results as they complete.

    A crash, or a file that takes longer than `seconds`, counts as a foreign exception.
    """
    # The fork server imports the modules once, and has no threads that a fork would lose.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([getattr(check, "func", check).__module__])
    waiting, running = list(reversed(paths)), list[_Running]()
    with tempfile.TemporaryDirectory() as folder:
        while waiting or running:
            while waiting and len(running) < jobs:
                path, output = waiting.pop(), Path(folder) / f"{len(waiting)}.json"
                process = context.Process(target=_check, args=(check, path, output))
                process.start()
                running.append(_Running(path, process, output, time.monotonic() + seconds))
            left = min(one.end for one in running) - time.monotonic()
            wait([one.process.sentinel for one in running], timeout=max(0, left))
            for one in [*running]:
                late = time.monotonic() > one.end
                if late or not one.process.is_alive():
                    one.process.kill()
                    one.process.join()
                    running.remove(one)
                    yield _result(one, late)


def _check(check: Check, path: Path, output: Path) -> None:
    warnings.filterwarnings("ignore", module="PIL")  # as the command does
    logging.getLogger().addHandler(logging.NullHandler())
    output.write_text(json.dumps(asdict(check(path))))


def _result(one: _Running, late: bool) -> Result:
    if one.output.exists() and one.process.exitcode == 0:
        values = json.loads(one.output.read_text())
        return Result(**values | {"findings": [(kind, text) for kind, text in values["findings"]]})
    what = "took too long" if late else f"crashed, exit code {one.process.exitcode}"
    return Result(str(one.path), "crashed", findings=[("foreign exceptions", what)])
