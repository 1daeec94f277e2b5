import json
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from export.exporter import export_bundle
from hfdn_deploy.network.checkpoints import save_checkpoint
from hfdn_deploy.network.config import HFDNConfig
from hfdn_deploy.network.hfdn import HFDN
from hfdn_deploy.photographs import photographs

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "data"

# A shell has what it runs in the background ignore ctrl-C, and nohup SIGHUP. So would what the
# tests start; what is handled is not inherited.
for number, handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, lambda number, frame: None),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """A crop of a real photograph, (60, 83, 3) RGB uint8."""
    return photographs()["chelsea"][80:140, 120:203].copy()


def make_network(scale: int = 4, seed: int = 0, **options: str) -> HFDN:
    """A network that passes signals on, with no trivial adaptive weight."""
    torch.manual_seed(seed)
    network = HFDN(HFDNConfig(scale, **options)).eval().requires_grad_(False)
    for name, parameter in network.named_parameters():
        if parameter.ndim == 4:
            parameter *= 2
        if "weights" in name:
            parameter += torch.empty_like(parameter).uniform_(-0.5, 1.0)
    return network


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ×4 checkpoint with random weights."""
    path = tmp_path_factory.mktemp("checkpoint") / "hfdn_x4.safetensors"
    save_checkpoint(path, make_network())
    return path


@pytest.fixture(scope="session")
def bundle(checkpoint: Path) -> Path:
    """The bundle of `checkpoint`; not to be changed."""
    return export_bundle(checkpoint, checkpoint.parent / "bundle").path


@pytest.fixture
def edit_manifest() -> Callable[[Path, Callable[[dict], None]], None]:
    def edit(bundle: Path, change: Callable[[dict], None]) -> None:
        path = bundle / "manifest.json"
        values = json.loads(path.read_text())
        change(values)
        path.write_text(json.dumps(values))

    return edit
