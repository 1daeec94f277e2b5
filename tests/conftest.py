import gc
import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

# Parallel tests with a thread for every core would mostly wait. Libraries read this setting when
# they are imported; processes of the tests inherit it.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from filelock import FileLock

from hfdn_deploy.bench import photographs

# Background jobs of a shell ignore SIGINT, and nohup ignores SIGHUP. Processes of the tests would
# inherit that; handlers are not inherited.
for number, handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, lambda number, frame: None),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files with the most slow tests first, so that no process works alone at the end."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


def _freeze() -> None:
    """Leave what lives now, mostly modules and caches, out of later garbage collections.

    In a process with millions of objects, each would take half a second.
    """
    gc.collect()
    gc.freeze()


def pytest_collection_finish() -> None:
    _freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Freeze what a file of tests leaves, when its fixtures are gone."""
    yield
    if nextitem is None or nextitem.path != item.path:
        _freeze()


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep compiled graphs and engines out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HFDN_CACHE", str(tmp_path_factory.mktemp("cache") / "hfdn"))
        yield


@pytest.fixture
def every_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the limit on threads, for tests of threads and of their memory."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


@pytest.fixture
def interrupted_starts(monkeypatch: pytest.MonkeyPatch) -> list[Thread]:
    """Interrupt the program when it starts a thread; return the threads that were started."""
    threads = []
    start = Thread.start

    def interrupted(thread: Thread) -> None:
        start(thread)
        threads.append(thread)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Thread, "start", interrupted)
    return threads


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """Return a crop of a photograph, (60, 83, 3) RGB uint8."""
    return photographs()["chelsea"][80:140, 120:203].copy()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that all processes of this test run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def checkpoint(shared: Path) -> Path:
    """Return a ×4 checkpoint with random weights."""
    pytest.importorskip("torch", exc_type=ModuleNotFoundError)
    from hfdn_deploy.network import save_checkpoint
    from tests.helpers.networks import make_network

    path = shared / "hfdn_x4.safetensors"
    with FileLock(f"{path}.lock"):
        if not path.exists():
            save_checkpoint(path, make_network())
    return path


@pytest.fixture(scope="session")
def bundle(checkpoint: Path) -> Path:
    """Return the bundle of `checkpoint`, exported once per test run; do not change it."""
    from export.exporter import export_bundle
    from tests.helpers.small_grid import make_small

    path = checkpoint.parent / "bundle"
    with FileLock(f"{path}.lock"), pytest.MonkeyPatch.context() as patch:
        if not path.exists():
            make_small(patch)
            export_bundle(checkpoint, path)
    return path


@pytest.fixture
def edit_manifest() -> Callable[[Path, Callable[[dict], None]], None]:
    def edit(bundle: Path, change: Callable[[dict], None]) -> None:
        path = bundle / "manifest.json"
        values = json.loads(path.read_text())
        change(values)
        path.write_text(json.dumps(values))

    return edit
