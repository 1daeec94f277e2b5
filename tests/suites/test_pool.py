"""Files are checked whatever another file does to the process that checks it."""

import os
import time
from pathlib import Path

from tests.suites.pool import check_all
from tests.suites.results import Result


def check(path: Path) -> Result:
    if path.name == "crash":
        os.abort()
    if path.name == "hang":
        time.sleep(60)
    return Result(str(path), tags=7, findings=[("metadata", "lost IFD0:Make")])


def test_a_crash_and_a_hang_stop_no_other_file(capfd):
    paths = [Path("hang"), Path("crash"), Path("fine")]
    results = {one.path: one for one in check_all(paths, check, jobs=3, seconds=1)}
    assert results["fine"] == check(Path("fine"))
    assert results["crash"].findings == [("foreign exceptions", "crashed, exit code -6")]
    assert results["hang"].findings == [("foreign exceptions", "took too long")]
    assert {results["crash"].outcome, results["hang"].outcome} == {"crashed"}
