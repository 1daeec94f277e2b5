"""PyTorch on an NVIDIA GPU, for checkpoints and bundles, from RGB pixels to RGB pixels."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from hfdn_deploy.backends.base import Backend, longest_side
from hfdn_deploy.backends.spec import BACKENDS, Obstacle
from hfdn_deploy.backends.torch import MEMORY, TorchBackend, TorchTiling, to_host
from hfdn_deploy.bundle import Bundle
from hfdn_deploy.cuda import is_device_array
from hfdn_deploy.errors import BackendError
from hfdn_deploy.ycbcr import FROM_RGB, TO_RGB

if TYPE_CHECKING:
    import torch

    from hfdn_deploy.network import HFDN

_TYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
# Number of shapes whose CUDA graphs are kept: that of a frame and a few of tiles.
_SHAPES = 8


class TorchCudaBackend(Backend):
    """A network in PyTorch on the current CUDA device, in channels-last memory.

    The bicubic base, to which the network adds little, is fp32 in every precision. A shape that
    comes for the second time is captured as a CUDA graph.

    Raises:
        BackendError: the precision is not supported.
    """

    name = "torch-cuda"
    takes_images = True

    def __init__(self, network: "HFDN", precision: str, device: str = "cuda") -> None:
        import torch

        if precision not in _TYPES:
            known = ", ".join(_TYPES)
            raise BackendError(f"torch-cuda runs {known}, not {precision}", "choose one of them")
        self.precision = precision
        self.scale = network.config.scale
        dtype = getattr(torch, _TYPES[precision])
        network.to(device, dtype)
        network.base.float()
        self._device = torch.device(device)
        self.tiling: TorchTiling = TorchTiling(network)
        if self._device.type == "cuda":
            free, _ = torch.cuda.mem_get_info()
            per_pixel = MEMORY[self.scale] * dtype.itemsize // 4  # measured on a CPU, in fp32
            self.tiling.largest = longest_side(free, per_pixel, self.tiling.halo)
        self._rows = [
            torch.tensor(matrix, dtype=torch.float32, device=device)
            for matrix in (FROM_RGB, 255 * TO_RGB)
        ]
        self._lumas = Replayed(self.tiling.upscaled)
        self._images = Replayed(self._upscaled_pixels)
        # One call at a time, since the CUDA graphs reuse their memory.
        self._turn = Lock()

    @classmethod
    def why_unavailable(cls) -> Obstacle | None:
        """See `Backend.why_unavailable`."""
        if obstacle := TorchBackend.why_unavailable():
            return obstacle
        import torch

        if not torch.cuda.is_available():
            return Obstacle("PyTorch finds no GPU that it can run on", BACKENDS[cls.name].install)
        return None

    @classmethod
    def open(cls, model: Bundle | Path, precision: str) -> Self:
        """See `Backend.open`; a bundle's precision must have passed its gates."""
        from hfdn_deploy.network import load_bundle, load_checkpoint

        if isinstance(model, Path):
            return cls(load_checkpoint(model), precision)
        if precision in _TYPES:
            model.read_model(precision)
        return cls(load_bundle(model), precision)

    def run(self, lr: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Backend.run`; an array on the device gives a tensor there."""
        result: NDArray[np.float32] = self._run(self._lumas, lr)
        return result

    def run_images(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """See `Backend.run_images`; an array on the device gives a tensor there."""
        result: NDArray[np.uint8] = self._run(self._images, images)
        return result

    def _run(self, function: "Replayed", given: Any) -> Any:
        import torch

        on_device = is_device_array(given)
        exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
        try:
            with self._turn, torch.inference_mode(), exact:
                tensor = torch.as_tensor(given, device=self._device)
                result = function(tensor)
                # A CUDA graph overwrites its output at the next replay.
                return result.clone() if on_device else self._to_host(result)
        except RuntimeError as error:
            shape = tuple(given.shape)
            raise BackendError(f"PyTorch failed on an input of shape {shape}: {error}") from error

    def _to_host(self, result: "torch.Tensor") -> NDArray[Any]:
        """Copy a result to page-locked memory, which PyTorch reuses once it is freed."""
        import torch

        if self._device.type != "cuda":
            return to_host(result)
        host = torch.empty(result.shape, dtype=result.dtype, pin_memory=True)
        host.copy_(result, non_blocking=True)
        torch.cuda.current_stream(self._device).synchronize()
        return np.asarray(host.numpy())

    def _upscaled_pixels(self, images: "torch.Tensor") -> "torch.Tensor":
        """Upscale uint8 RGB (N, H, W, 3) to (N, sH, sW, 3) as `hfdn_deploy.graph.image_graph`."""
        import torch
        from torch.nn import functional as F

        from_rgb, to_rgb = self._rows
        planes = images.permute(0, 3, 1, 2).float() / 255
        ycbcr = F.conv2d(planes, from_rgb[:, :3, None, None], from_rgb[:, 3])
        luma, chroma = ycbcr[:, :1].contiguous(), ycbcr[:, 1:]
        enlarged = F.interpolate(chroma, scale_factor=self.scale, mode="bicubic")
        large = torch.cat([self.tiling.upscaled(luma), enlarged], 1)
        levels = F.conv2d(large, to_rgb[:, :3, None, None], to_rgb[:, 3])
        pixels = levels.clamp(0, 255).round().to(torch.uint8)
        return pixels.permute(0, 2, 3, 1).contiguous()

    def seconds(self) -> float | None:
        """See `Backend.seconds`."""
        return self._lumas.seconds()

    def close(self) -> None:
        """See `Backend.close`."""
        del self.tiling, self._lumas, self._images


@dataclass
class _Captured:
    """A CUDA graph with its input and output tensors."""

    graph: "torch.cuda.CUDAGraph"
    source: "torch.Tensor"
    result: "torch.Tensor"

    def replay(self) -> "torch.Tensor":
        """Return the result for the values in `source`."""
        self.graph.replay()
        return self.result


class Replayed:
    """A function of a tensor, replayed as a CUDA graph for repeated shapes."""

    def __init__(self, function: "Callable[[torch.Tensor], torch.Tensor]") -> None:
        self._function = function
        self._captured: OrderedDict[tuple[int, ...], _Captured | None] = OrderedDict()
        self._events: tuple[torch.Event, torch.Event] | None = None

    def __call__(self, x: "torch.Tensor") -> "torch.Tensor":
        """Return the result, which the next call with the same shape overwrites."""
        if x.device.type != "cuda":
            return self._function(x)
        import torch

        shape = tuple(x.shape)
        if shape not in self._captured:
            self._captured[shape] = None  # the first run warms up
            if len(self._captured) > _SHAPES:
                self._captured.popitem(last=False)
            return self._timed(lambda: self._function(x))
        self._captured.move_to_end(shape)
        captured = self._captured[shape]
        if captured is None:
            graph, source = torch.cuda.CUDAGraph(), x.clone()
            with torch.cuda.graph(graph, capture_error_mode="relaxed"):
                result = self._function(source)
            captured = self._captured[shape] = _Captured(graph, source, result)
        captured.source.copy_(x)
        return self._timed(captured.replay)

    def _timed(self, compute: "Callable[[], torch.Tensor]") -> "torch.Tensor":
        import torch

        begun, done = (torch.Event("cuda", enable_timing=True) for _ in range(2))
        begun.record()
        result = compute()
        done.record()
        self._events = begun, done
        return result

    def seconds(self) -> float | None:
        """Return the seconds of the last computation by the device's clock; None without one."""
        if self._events is None:
            return None
        begun, done = self._events
        done.synchronize()
        return float(begun.elapsed_time(done)) / 1000
