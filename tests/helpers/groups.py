"""Control groups, as containers use them, made by a test; on most machines this needs root."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from hfdn_deploy.machine import ROOT, find_groups

# By controller: the file of version 2 or 1 that holds the limit, and the limit's format.
_LIMITS = {
    "memory": {"memory.max": "{}", "memory.limit_in_bytes": "{}"},
    "cpu": {"cpu.max": "{} 100000", "cpu.cfs_quota_us": "{}"},
}


@contextmanager
def control_group(controller: str, limit: int) -> Iterator[Path]:
    """Make a control group below this process's own; skip the test if that is not allowed.

    Args:
        controller: "memory" or "cpu".
        limit: bytes of memory, or microseconds of CPU in each tenth of a second.
    """
    own = next(find_groups(ROOT, controller), None)
    if own is None:
        pytest.skip("this machine has no control groups")
    made = own / f"hfdn-test-{uuid4().hex}"
    try:
        made.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        files = [name for name in _LIMITS[controller] if (made / name).exists()]
        if not files:
            pytest.skip(f"no {controller} limit can be set here")
        (made / files[0]).write_text(_LIMITS[controller][files[0]].format(limit))
        entered = subprocess.run(inside(made, ["true"]), stderr=subprocess.PIPE, text=True)
        if entered.returncode:
            pytest.skip(f"no process can enter a control group here: {entered.stderr}")
        yield made
    finally:
        made.rmdir()


def inside(group: Path, command: list[str]) -> list[str]:
    """Return a command that enters a control group, then runs the given command."""
    # A busy kernel may refuse entry for a moment (EIO).
    enter = 'for try in 1 2 3 4 5; do echo $$ > "$0/cgroup.procs" && exec "$@"; sleep 1; done'
    return ["sh", "-c", f"{enter}; exit 1", str(group), *command]
