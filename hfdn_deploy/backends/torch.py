"""PyTorch in fp32 on the CPU: the reference every other backend is held to."""

from importlib import import_module
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hfdn_deploy.errors import BackendError


def why_unavailable(name: str) -> str | None:
    """Why the reference cannot run here; None if it can."""
    try:
        for name in ("torch", "safetensors"):
            import_module(name)
    except (ImportError, OSError) as error:  # OSError: one of its libraries does not load
        return f"PyTorch cannot be imported ({error}): pip install 'hfdn-deploy[torch]'"
    return None


def open_model(model: Path, precision: str, name: str) -> "TorchBackend":
    """Open a checkpoint; only precision "fp32" exists here."""
    if precision != "fp32":
        raise BackendError(f"torch runs fp32, not {precision}; export a bundle for the others.")
    return TorchBackend(model)


# What `hfdn_deploy.halo` finds in the graph of the network, by scale; ablations reach no further.
HALO = {2: 20, 3: 20, 4: 19}

# By scale, as `python -m benchmarks memory` measures it.
_MEMORY = {2: 4000, 3: 7000, 4: 12000}


class TorchBackend:
    """A checkpoint in PyTorch.

    Raises:
        CheckpointError: the checkpoint is not usable.
    """

    name = "torch"
    precision = "fp32"
    concurrency = 1
    largest: int | None = None
    overhead = 0
    split = None

    def __init__(self, checkpoint: Path) -> None:
        from hfdn_deploy.network.checkpoints import load_checkpoint

        self._network = load_checkpoint(checkpoint)
        config = self._network.config
        self.scale = config.scale
        self.halo = HALO[config.scale]
        self.pools = "ca" in config.attention
        self.memory = _MEMORY[config.scale]

    def run(self, lr: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Backend.run`."""
        return self.run_tile(lr, None)

    def pooled_sums(
        self, lr: NDArray[np.float32], inside: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """See `TilingBackend.pooled_sums`."""
        import torch

        with torch.inference_mode():
            fused = self._network.fused_features(torch.from_numpy(lr))[1]
            sums = (fused * torch.from_numpy(inside)).sum((2, 3), keepdim=True)
            return np.asarray(sums.numpy())

    def run_tile(
        self, lr: NDArray[np.float32], pooled: NDArray[np.float32] | None
    ) -> NDArray[np.float32]:
        """See `TilingBackend.run_tile`."""
        import torch

        mean = None if pooled is None else torch.from_numpy(pooled)
        with torch.inference_mode():
            return np.asarray(self._network(torch.from_numpy(lr), mean).numpy())

    def close(self) -> None:
        """See `Backend.close`."""
        del self._network
