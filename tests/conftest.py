import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

# Of tests that run beside others, each with a thread for every core, most threads would wait. What
# a library makes of this is fixed when it is imported; the tests' own processes inherit it.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from filelock import FileLock

from hfdn_deploy.bench import photographs

# A shell has what it runs in the background ignore ctrl-C, and nohup SIGHUP. So would what the
# tests start; what is handled is not inherited.
for number, handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, lambda number, frame: None),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files with the most slow tests first, so that none is left for the end alone."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep compiled graphs and engines out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HFDN_CACHE", str(tmp_path_factory.mktemp("cache") / "hfdn"))
        yield


@pytest.fixture
def every_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many threads as elsewhere, for tests of threads and of the memory that they take."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """A crop of a real photograph, (60, 83, 3) RGB uint8."""
    return photographs()["chelsea"][80:140, 120:203].copy()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this run that all of its processes share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def checkpoint(shared: Path) -> Path:
    """A ×4 checkpoint with random weights."""
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
    """The bundle of `checkpoint`, exported once in a test run; not to be changed."""
    from export.exporter import export_bundle
    from tests.helpers.small_grid import leave_few

    path = checkpoint.parent / "bundle"
    with FileLock(f"{path}.lock"), pytest.MonkeyPatch.context() as patch:
        if not path.exists():
            leave_few(patch)
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
