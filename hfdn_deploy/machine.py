"""Memory and CPUs that the machine, or a container around this process, leaves to it."""

import ctypes
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

ROOT = Path("/")

# For each version of control groups: the files of the limits and of the usage, and the line of
# memory.stat that counts the file pages which the kernel drops first. Docker and Kubernetes
# subtract those too.
_MEMORY = (
    (("memory.max", "memory.high"), "memory.current", "inactive_file"),
    (("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file"),
)


def free_memory(root: Path = ROOT) -> int:
    """Return the bytes that this process can still allocate without being killed.

    This is the machine's available memory, or less if a control group (a container) around the
    process has a limit.

    Args:
        root: where /proc and the control groups are found.
    """
    return max(0, min([psutil.virtual_memory().available, *_free_in_groups(root)]))


def cpus(root: Path = ROOT) -> int:
    """Return how many CPUs this process can use: its affinity, or its group's quota if smaller.

    A quota is rounded up to whole CPUs.

    Args:
        root: where /proc and the control groups are found.
    """
    has_affinity = hasattr(os, "sched_getaffinity")
    found = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return min([found, *(max(1, math.ceil(quota)) for quota in _quotas(root))])


def threads(root: Path = ROOT) -> int:
    """Return the number of CPU threads to set in a library; 0 for the library's own choice.

    This is $OMP_NUM_THREADS, which a cluster sets to the cores of a worker. Without it, it is
    `cpus` if smaller than the number of physical cores, which libraries use by default.

    Args:
        root: where /proc and the control groups are found.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal():
        return int(asked)
    found = cpus(root)
    return found if found < (psutil.cpu_count(logical=False) or os.cpu_count() or 1) else 0


def cores(root: Path = ROOT) -> int:
    """Return how many threads compute on the CPU by default; see `threads`."""
    return threads(root) or psutil.cpu_count(logical=False) or os.cpu_count() or 1


def _free_in_groups(root: Path) -> Iterator[int]:
    """Yield the bytes free below each limit of each group around this process."""
    for group in find_groups(root, "memory"):
        for limits, used, cached in _MEMORY:
            for limit in limits:
                with suppress(OSError, ValueError):  # "max", or no such file
                    most = int((group / limit).read_text())
                    lines = (group / "memory.stat").read_text().splitlines()
                    counts = dict(line.split() for line in lines)
                    yield most - int((group / used).read_text()) + int(counts.get(cached, 0))


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quota of each group around this process that has one, in CPUs."""
    for group in find_groups(root, "cpu"):
        with suppress(OSError, ValueError):  # "max", or no such file
            quota, period = map(int, (group / "cpu.max").read_text().split())
            yield quota / period
        with suppress(OSError):
            quota, period = (
                int((group / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period")
            )
            if quota > 0:
                yield quota / period


def find_groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of this process's control group and of its parents, innermost first.

    Both the hierarchy of version 2 and the version 1 hierarchy of this controller are searched.
    """
    try:
        own = (root / "proc/self/cgroup").read_text().splitlines()
        mounts = (root / "proc/self/mountinfo").read_text().splitlines()
    except OSError:  # not Linux
        return
    paths = {names: path for _, names, path in (line.split(":", 2) for line in own)}
    for mount in mounts:
        place, _, kind = mount.partition(" - ")
        top, folder = place.split()[3:5]
        system, *_, options = kind.split()
        if system == "cgroup2":
            path = paths.get("")
        elif system == "cgroup" and controller in options.split(","):
            path = next((p for names, p in paths.items() if controller in names.split(",")), None)
        else:
            continue
        if path is None:
            continue
        # In a container, the root of the mount may be the group itself.
        inside = Path(path).relative_to(top) if Path(path).is_relative_to(top) else Path()
        mounted = root / folder.lstrip("/")
        yield from (mounted / part for part in (inside, *inside.parents))


@contextmanager
def same_scheduling() -> Iterator[None]:
    """Reset the scheduling of threads of this process that changes in the block.

    Where it is permitted, as for root, SVT-AV1 gives its threads and the calling thread real-time
    scheduling at the highest priority, and nothing else runs on the machine.
    """
    threads = Path("/proc/self/task")
    if not threads.exists():  # not Linux
        yield
        return
    before = {int(path.name): _scheduling(int(path.name)) for path in threads.iterdir()}
    usual = _scheduling(0)
    try:
        yield
    finally:
        for path in threads.iterdir():
            number = int(path.name)
            wanted = before.get(number, usual)
            with suppress(OSError):  # the thread has ended
                if wanted and _scheduling(number) != wanted:
                    os.sched_setscheduler(number, *wanted)


def _scheduling(thread: int) -> "tuple[int, os.sched_param] | None":
    """Return the policy and parameters of a thread; None if it has ended."""
    with suppress(OSError):
        return os.sched_getscheduler(thread), os.sched_getparam(thread)
    return None


def trim_heap() -> None:
    """Return memory that glibc keeps after `free` to the system; does nothing elsewhere."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
