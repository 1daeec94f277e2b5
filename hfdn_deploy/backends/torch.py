"""PyTorch in fp32 on the CPU: the reference every other backend is held to."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from hfdn_deploy.backends.base import Backend, Features, SplitNetwork, Tiling
from hfdn_deploy.backends.spec import BACKENDS, Obstacle
from hfdn_deploy.errors import BackendError
from hfdn_deploy.machine import threads

if TYPE_CHECKING:
    from hfdn_deploy.network import HFDN


# As `hfdn_deploy.graph.halo` finds it in the graph, by scale; ablations reach no further.
HALO = {2: 20, 3: 20, 4: 19}
HALO_OF_HEADS = {2: 3, 3: 3, 4: 2}

# The features that the heads read: of the first convolutions, two of the modules, and all fused.
_KEPT = ("shallow", "s", "m", "fused")

# By scale, as `python -m benchmarks memory` measures it.
_MEMORY = {2: 2800, 3: 5700, 4: 9700}


class TorchBackend(Backend):
    """A checkpoint in PyTorch.

    Raises:
        CheckpointError: the checkpoint is not usable.
    """

    name = "torch"

    def __init__(self, checkpoint: Path) -> None:
        import torch

        from hfdn_deploy.network import load_checkpoint

        if most := threads():
            torch.set_num_threads(min(most, torch.get_num_threads()))
        network = load_checkpoint(checkpoint)
        self.scale = network.config.scale
        self.tiling: TorchTiling = TorchTiling(network)

    @classmethod
    def why_unavailable(cls) -> Obstacle | None:
        """See `Backend.why_unavailable`."""
        try:
            for name in ("torch", "safetensors"):
                import_module(name)
        except (ImportError, OSError) as error:  # OSError: one of its libraries does not load
            return Obstacle(f"PyTorch cannot be imported ({error})", BACKENDS[cls.name].install)
        return None

    @classmethod
    def open(cls, model: Path, precision: str) -> Self:
        """See `Backend.open`; only precision "fp32" exists here."""
        if precision != "fp32":
            raise BackendError(
                f"torch runs fp32, not {precision}", "export a bundle for the others"
            )
        return cls(model)

    def run(self, lr: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Backend.run`."""
        return self.tiling.run_tile(lr, None)

    def close(self) -> None:
        """See `Backend.close`."""
        del self.tiling


class TorchTiling(Tiling):
    """A network with the mean that it pools given or taken."""

    # glibc maps what is larger than 32 MiB by itself, and keeps more of the rest than is in use.
    overhead = 56 * 2**20

    def __init__(self, network: "HFDN") -> None:
        config = network.config
        self.scale = config.scale
        self.halo = HALO[config.scale]
        self.pools = "ca" in config.attention
        self.memory = _MEMORY[config.scale]
        self._network = network
        self._parts = TorchSplit(network)

    @property
    def split(self) -> "TorchSplit | None":
        """See `Tiling.split`."""
        return self._parts if self.pools else None

    def pooled_sums(
        self, lr: NDArray[np.float32], inside: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """See `Tiling.pooled_sums`."""
        return self._parts.trunk(lr, inside)[0]

    def run_tile(
        self, lr: NDArray[np.float32], pooled: NDArray[np.float32] | None
    ) -> NDArray[np.float32]:
        """See `Tiling.run_tile`."""
        import torch

        mean = None if pooled is None else torch.from_numpy(pooled)
        with torch.inference_mode():
            return np.asarray(self._network(torch.from_numpy(lr), mean).numpy())


class TorchSplit(SplitNetwork):
    """A network in two."""

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
