"""PyTorch in fp32 on the CPU: the reference every other backend is held to."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hfdn_deploy.backends.registry import Features, SplitNetwork
from hfdn_deploy.errors import BackendError

if TYPE_CHECKING:
    from hfdn_deploy.network import HFDN


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


# As `hfdn_deploy.graph.halo` finds it in the graph, by scale; ablations reach no further.
HALO = {2: 20, 3: 20, 4: 19}
HALO_OF_HEADS = {2: 3, 3: 3, 4: 2}

# The features that the heads read: of the first convolutions, two of the modules, and all fused.
_KEPT = ("shallow", "s", "m", "fused")

# By scale, as `python -m benchmarks memory` measures it.
_MEMORY = {2: 2800, 3: 5700, 4: 9700}


class TorchBackend:
    """A checkpoint in PyTorch.

    Raises:
        CheckpointError: the checkpoint is not usable.
    """

    name = "torch"
    precision = "fp32"
    concurrency = 1
    largest: int | None = None
    # glibc maps what is larger than 32 MiB by itself, and keeps more of the rest than is in use.
    overhead = 56 * 2**20

    def __init__(self, checkpoint: Path) -> None:
        from hfdn_deploy.network import load_checkpoint

        self._network = load_checkpoint(checkpoint)
        config = self._network.config
        self.scale = config.scale
        self.halo = HALO[config.scale]
        self.pools = "ca" in config.attention
        self.memory = _MEMORY[config.scale]
        self._parts = TorchSplit(self._network)
        self.split: SplitNetwork | None = self._parts if self.pools else None

    def run(self, lr: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Backend.run`."""
        return self.run_tile(lr, None)

    def pooled_sums(
        self, lr: NDArray[np.float32], inside: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """See `TilingBackend.pooled_sums`."""
        return self._parts.trunk(lr, inside)[0]

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
        del self._network, self._parts
        self.split = None


class TorchSplit:
    """A network in two; a `SplitNetwork`."""

    memory = 4 * 48 * len(_KEPT)

    def __init__(self, network: "HFDN") -> None:
        self._network = network
        self.halo = HALO_OF_HEADS[network.config.scale]

    def trunk(
        self, lr: NDArray[np.float32], inside: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], Features]:
        """See `SplitNetwork.trunk`."""
        import torch

        with torch.inference_mode():
            features, fused = self._network.fused_features(torch.from_numpy(lr))
            sums = (fused * torch.from_numpy(inside)).sum((2, 3), keepdim=True)
        # Of the last module, the heads read nothing but what is fused.
        kept = zip(_KEPT, (*features[:-1], fused), strict=True)
        return np.asarray(sums.numpy()), {name: x.numpy() for name, x in kept}

    def heads(
        self, lr: NDArray[np.float32], features: Features, pooled: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """See `SplitNetwork.heads`."""
        import torch

        *first, fused = (torch.from_numpy(features[name]) for name in _KEPT)
        with torch.inference_mode():
            levels = self._network.attended(first, fused, torch.from_numpy(pooled))
            return np.asarray(self._network.reconstructed(torch.from_numpy(lr), levels)[-1].numpy())
