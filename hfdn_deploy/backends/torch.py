"""PyTorch in fp32 on the CPU, the reference for all other backends, and tiles of its networks."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from hfdn_deploy.backends.base import Backend, Features, SplitNetwork, Tiling
from hfdn_deploy.backends.spec import BACKENDS, Obstacle
from hfdn_deploy.errors import BackendError
from hfdn_deploy.machine import threads

if TYPE_CHECKING:
    from torch import Tensor

    from hfdn_deploy.network import HFDN


# By scale, as `hfdn_deploy.graph.halo_of` finds in the graph; ablations reach no further.
HALO = {2: 20, 3: 20, 4: 19}
HALO_OF_HEADS = {2: 3, 3: 3, 4: 2}

# Features that the heads read: of the first convolutions, of two modules, and all fused.
_KEPT = ("shallow", "s", "m", "fused")

MEMORY = {2: 2700, 3: 4700, 4: 7700}
"""`Tiling.memory` by scale; `python -m benchmarks memory` measures them."""


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
        self.tiling.memory = MEMORY[self.scale]

    @classmethod
    def why_unavailable(cls) -> Obstacle | None:
        """See `Backend.why_unavailable`."""
        try:
            for name in ("torch", "safetensors"):
                import_module(name)
        except (ImportError, OSError) as error:  # OSError: a shared library does not load
            return Obstacle(f"PyTorch cannot be imported ({error})", BACKENDS[cls.name].install)
        return None

    @classmethod
    def open(cls, model: Path, precision: str) -> Self:
        """See `Backend.open`; the only precision is "fp32"."""
        if precision != "fp32":
            raise BackendError(
                f"torch runs fp32, not {precision}", "export a bundle for other precisions"
            )
        return cls(model)

    def run(self, lr: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Backend.run`."""
        return self.tiling.run_tile(lr, None)

    def close(self) -> None:
        """See `Backend.close`."""
        del self.tiling


class TorchTiling(Tiling):
    """Tiles of a network, on its device and in its dtype.

    The image, its bicubic base, the sums and the mean are fp32 for every dtype.
    """

    # glibc keeps freed blocks of up to 32 MiB, and maps larger ones separately.
    overhead = 56 * 2**20

    def __init__(self, network: "HFDN") -> None:
        config = network.config
        self.scale = config.scale
        self.halo = HALO[config.scale]
        self.pools = "ca" in config.attention
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

        mean = None if pooled is None else self._parts.placed(pooled)
        with torch.inference_mode():
            return to_host(self.upscaled(self._parts.placed(lr), mean))

    def upscaled(self, lr: "Tensor", mean: "Tensor | None" = None) -> "Tensor":
        """Return the fp32 output (N, 1, sH, sW) for luma (N, 1, H, W) on the network's device."""
        typed = self._parts.typed
        levels = self._network.level_features(typed(lr), None if mean is None else typed(mean))
        return self._network.reconstructed(lr, levels)[-1]


class TorchSplit(SplitNetwork):
    """A network cut in two."""

    memory = 4 * 48 * len(_KEPT)

    def __init__(self, network: "HFDN") -> None:
        self._network = network
        self._like = network.shallow1.weight
        self.halo = HALO_OF_HEADS[network.config.scale]

    def trunk(
        self, lr: NDArray[np.float32], inside: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], Features]:
        """See `SplitNetwork.trunk`."""
        import torch

        with torch.inference_mode():
            features, fused = self._network.fused_features(self.typed(self.placed(lr)))
            sums = (fused.float() * self.placed(inside)).sum((2, 3), keepdim=True)
            # The heads read the last module's features only as part of the fused ones.
            kept = zip(_KEPT, (*features[:-1], fused), strict=True)
            return to_host(sums), {name: to_host(x) for name, x in kept}

    def heads(
        self, lr: NDArray[np.float32], features: Features, pooled: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """See `SplitNetwork.heads`."""
        import torch

        with torch.inference_mode():
            *first, fused = (self.typed(self.placed(features[name])) for name in _KEPT)
            levels = self._network.attended(first, fused, self.typed(self.placed(pooled)))
            return to_host(self._network.reconstructed(self.placed(lr), levels)[-1])

    def placed(self, array: NDArray[Any]) -> "Tensor":
        """Return an array as a tensor on the network's device."""
        import torch

        return torch.from_numpy(array).to(self._like.device)

    def typed(self, tensor: "Tensor") -> "Tensor":
        """Return a tensor in the network's dtype."""
        return tensor.to(self._like.dtype)


def to_host(tensor: "Tensor") -> NDArray[Any]:
    """Return a tensor as an array; bf16, which NumPy lacks, becomes fp32."""
    import torch

    known = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
    return np.asarray(known.cpu().numpy())
