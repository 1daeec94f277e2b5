import json
import os
import subprocess
import sys

import psutil
import pytest

from hfdn_deploy.machine import cpus, free_memory, threads
from tests.helpers.groups import control_group, inside
from tests.helpers.paths import ROOT

CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
CORES = psutil.cpu_count(logical=False) or CPUS
MEBI = 2**20


@pytest.fixture
def system(tmp_path):
    """Return a function that writes files by name below a root folder, and returns the folder."""

    def write(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


V2 = {
    "proc/self/cgroup": "0::/pod/container\n",
    "proc/self/mountinfo": (
        "22 1 0:5 / / rw - overlay  rw\n"
        "30 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
    ),
}
# Docker without a cgroup namespace mounts the group itself.
V1 = {
    "proc/self/cgroup": (
        "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n1:name=systemd:/x\n0::/\n"
    ),
    "proc/self/mountinfo": (
        "30 22 0:26 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n"
        "31 22 0:27 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
        "32 22 0:28 /docker/abc /sys/fs/cgroup/systemd ro - cgroup cgroup rw,name=systemd\n"
        "33 22 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
    ),
}


def memory_v2(folder, limit, used, cached, high="max"):
    return {
        f"{folder}/memory.max": f"{limit}\n",
        f"{folder}/memory.high": f"{high}\n",
        f"{folder}/memory.current": f"{used}\n",
        f"{folder}/memory.stat": f"anon 5\nfile 7\ninactive_file {cached}\nactive_file 3\n",
    }


@pytest.mark.parametrize(
    ("outer", "inner", "free"),
    [
        ((64 * MEBI, 10 * MEBI, 0), ("max", 10 * MEBI, 0), 54 * MEBI),
        ((64 * MEBI, 10 * MEBI, 4 * MEBI), ("max", 10 * MEBI, 0), 58 * MEBI),
        ((64 * MEBI, 10 * MEBI, 0), (32 * MEBI, 9 * MEBI, 2 * MEBI), 25 * MEBI),
        ((64 * MEBI, 60 * MEBI, 0), (32 * MEBI, 9 * MEBI, 2 * MEBI), 4 * MEBI),
        ((64 * MEBI, 10 * MEBI, 0), (32 * MEBI, 33 * MEBI, 0), 0),
        ((64 * MEBI, 0, 0), (32 * MEBI, 9 * MEBI, 2 * MEBI, 16 * MEBI), 9 * MEBI),
    ],
    ids=["ancestor", "cache", "own", "full ancestor", "over the limit", "high"],
)
def test_free_memory_in_version_2(system, outer, inner, free):
    pod = "sys/fs/cgroup/pod"
    root = system({**V2, **memory_v2(pod, *outer), **memory_v2(f"{pod}/container", *inner)})
    assert free_memory(root) == free


def test_free_memory_in_version_1(system):
    group = "sys/fs/cgroup/memory"
    files = {
        f"{group}/memory.limit_in_bytes": f"{64 * MEBI}\n",
        f"{group}/memory.usage_in_bytes": f"{30 * MEBI}\n",
        f"{group}/memory.stat": f"inactive_file 1\ntotal_inactive_file {8 * MEBI}\n",
    }
    assert free_memory(system({**V1, **files})) == 42 * MEBI


def test_free_memory_is_the_machines_where_there_is_no_limit(system, monkeypatch):
    memory = type("Memory", (), {"available": 5 * MEBI})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    assert free_memory(system({})) == 5 * MEBI
    unlimited = {
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "1\n",
        "sys/fs/cgroup/memory/memory.stat": "total_inactive_file 0\n",
    }
    assert free_memory(system({**V1, **unlimited})) == 5 * MEBI


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({}, CPUS),
        ({**V2, "sys/fs/cgroup/pod/container/cpu.max": "max 100000\n"}, CPUS),
        ({**V2, "sys/fs/cgroup/pod/container/cpu.max": "50000 100000\n"}, 1),
        ({**V2, "sys/fs/cgroup/pod/cpu.max": "100000 100000\n"}, 1),
        ({**V2, "sys/fs/cgroup/pod/cpu.max": f"{CPUS}0001 10000\n"}, CPUS),
        (
            {
                **V1,
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            CPUS,
        ),
        (
            {
                **V1,
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "80000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            1,
        ),
    ],
    ids=["none", "max", "half", "ancestor", "more", "unlimited v1", "v1"],
)
def test_cpus(system, files, found, monkeypatch):
    monkeypatch.setattr(psutil, "cpu_count", lambda logical: CPUS)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    root = system(files)
    assert cpus(root) == found
    assert threads(root) == (0 if found == CPUS else found)


def test_a_quota_of_part_of_a_cpu_counts_as_a_whole(system, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(psutil, "cpu_count", lambda logical: 4)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for quota, expected in (("150000", 2), ("300000", 3), ("400000", 4), ("410000", 5)):
        root = system({**V2, "sys/fs/cgroup/pod/cpu.max": f"{quota} 100000\n"})
        assert cpus(root) == expected
        # 0: libraries use the four cores by themselves.
        assert threads(root) == (expected if expected < 4 else 0)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert threads(root) == 7


def asked_in(group, expression):
    """Evaluate an expression of hfdn_deploy.machine in a control group."""
    return json.loads(printed(group, f"from hfdn_deploy.machine import *; print({expression})"))


def printed(group, script):
    """Run Python in a control group and return what it prints."""
    command = inside(group, [sys.executable, "-c", script])
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    return subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True
    ).stdout


def test_free_memory_in_a_real_group():
    with control_group("memory", 256 * MEBI) as group:
        free = asked_in(group, "free_memory()")
        assert 200 * MEBI < free < 256 * MEBI
        held = asked_in(group, "(held := b'x' * 2**26) and free_memory()")
        assert 50 * MEBI < free - held < 80 * MEBI


def test_cpus_in_a_real_group():
    with control_group("cpu", 50_000) as group:
        assert asked_in(group, "cpus()") == 1
        assert asked_in(group, "threads()") == (1 if CORES > 1 else 0)


LIBRARIES = """
from hfdn_deploy.backends import compile_graph, onnxruntime, torch
from hfdn_deploy.bundle import pretrained
from hfdn_deploy.images import colour
model = compile_graph(pretrained(2).read_model("fp32"), "f32")
torch.TorchBackend("checkpoints/hfdn_x2.safetensors")
import cv2, torch
print([
    onnxruntime.session_options().intra_op_num_threads,
    model.get_property("INFERENCE_NUM_THREADS"),
    torch.get_num_threads(),
    cv2.getNumThreads(),
])
"""


@pytest.mark.skipif(CORES < 2, reason="a quota of one CPU is not less than this machine has")
def test_libraries_start_no_more_threads_than_a_quota_feeds():
    with control_group("cpu", 100_000) as group:
        assert json.loads(printed(group, LIBRARIES)) == [1, 1, 1, 1]
