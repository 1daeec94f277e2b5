"""Protocols of backends and of their tiles."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from hfdn_deploy.backends.spec import Obstacle
from hfdn_deploy.bundle import Bundle
from hfdn_deploy.engines import Engine

Model = Bundle | Engine | Path
"""A model that a backend can open: a bundle, an engine, or the path of a checkpoint."""

Features = Mapping[str, NDArray[Any]]
"""Features that one part of a network hands to another, (N, C, H, W) by name, of any dtype."""

T = TypeVar("T")

# Side of the smallest tiles that are chosen when memory is short.
_SMALLEST = 16


class Backend(ABC):
    """A network ready to run.

    Backends in `BACKENDS` implement `why_unavailable` and `open`; a backend that a program makes
    itself only needs `name`, `scale`, `run` and `close`.
    """

    name: ClassVar[str]
    """Key in `BACKENDS`."""
    scale: int
    """Upscaling factor."""
    precision: str = "fp32"
    """Precision of the graph that runs."""
    forks: ClassVar[bool] = False
    """Whether `run` works in a process forked after the backend was opened; established by test."""
    concurrency: int = 1
    """Number of threads whose calls of `run` gain throughput by overlapping."""
    streams: int = 1
    """Most threads that `prepare` can split the CPU between to gain throughput."""
    takes_images: bool = False
    """Whether `run_images` upscales RGB images directly, without the work around `run`."""
    tiling: "Tiling | None" = None
    """Support for tiles; None if the backend only runs whole images."""

    @classmethod
    def why_unavailable(cls) -> Obstacle | None:
        """Return why the backend cannot run here; None if it can.

        The library is tried: an installed package can still be broken or lack its device.
        """
        return None

    @classmethod
    def why_slow(cls, precision: str) -> Obstacle | None:
        """Return why a precision is not faster than fp32 here although `by_speed` ranks it so."""
        return None

    @classmethod
    def open(cls, model: Any, precision: str) -> Self:
        """Open a model of one of the kinds in the backend's record.

        Raises:
            BundleError, CheckpointError, EngineError: the model is not usable.
            GateError: the model's graph did not pass its gates.
            BackendError: the library does not support the precision or refuses the graph.
        """
        raise NotImplementedError

    @abstractmethod
    def run(self, lr: NDArray[np.float32]) -> NDArray[np.float32]:
        """Upscale luma (N, 1, H, W) in [0, 1] to (N, 1, sH, sW), without clipping."""

    def run_images(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Upscale RGB images (N, H, W, 3) to (N, sH, sW, 3) as `hfdn_deploy.graph.image_graph`."""
        raise NotImplementedError

    @abstractmethod
    def close(self) -> None:
        """Free the backend's resources; `run` must not be called afterwards."""

    def trim(self) -> None:  # noqa: B027 (many backends keep nothing)
        """Free the memory that is kept between runs, which makes the next `run` slower.

        Other threads may call `run` meanwhile.
        """

    def prepare(self, height: int, width: int, number: int) -> None:  # noqa: B027 (as above)
        """Make `run` faster, if possible, for single inputs of a size that will come often.

        This takes about a second. Results for this size may then differ as far as the graph's gate
        allows, as they may between machines. Only one size is prepared at a time.

        Args:
            height, width: of the inputs.
            number: threads that will call `run` at the same time, at most `streams`. Each gets its
                part of the CPU, so fewer threads leave some of it idle.

        Raises:
            BackendError: the library refuses the size.
        """

    def max_batch(self, height: int, width: int) -> int | None:
        """Return the largest batch of a size for one `run`; None if only memory limits it."""
        return None

    def seconds(self) -> float | None:
        """Return the seconds of the last `run` by the device's clock, without transfers.

        Only for use from one thread; None if the device has no clock of its own.
        """
        return None


class SplitNetwork(ABC):
    """A network cut in two, so that no tile computes the features before the pooling twice."""

    halo: int
    """Radius, in low-resolution pixels, of the features that an output pixel sees."""
    memory: int
    """Bytes of features per low-resolution pixel."""

    @abstractmethod
    def trunk(
        self, lr: NDArray[np.float32], inside: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], Features]:
        """Return the same sums as `Tiling.pooled_sums`, and the features that the heads read."""

    @abstractmethod
    def heads(
        self, lr: NDArray[np.float32], features: Features, pooled: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Upscale as `Tiling.run_tile`, from the features of the same pixels."""


class Tiling(ABC):
    """A backend's way to run tiles of an image, which `hfdn_deploy.tiling` joins."""

    scale: int
    """Upscaling factor of the backend."""
    halo: int
    """Radius, in low-resolution pixels, of the input that an output pixel sees, pooling aside."""
    pools: bool
    """Whether each output pixel also depends on a mean over the whole image."""
    memory: int | None = None
    """Peak bytes per low-resolution pixel of one input, over all graphs that run for it.

    Measured; None if it has not been measured.
    """
    overhead: int = 0
    """Bytes that a run takes regardless of the size."""
    largest: int | None = None
    """Longest side of an input, halo included; None if only memory limits it."""

    @property
    def split(self) -> SplitNetwork | None:
        """The same network cut in two; None if it is not cut or has no pooling to cut it at."""
        return None

    @property
    def repeated(self) -> "Tiling":
        """Variant for many tiles of one shape, which may take longer to open and less for each."""
        return self

    @abstractmethod
    def pooled_sums(
        self, lr: NDArray[np.float32], inside: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the sums (N, C, 1, 1) of the pooled features over the pixels where `inside` is 1.

        Args:
            lr: luma (N, 1, H, W) in [0, 1].
            inside: (N, 1, H, W), 1 for pixels that count and 0 for the others.
        """

    @abstractmethod
    def run_tile(
        self, lr: NDArray[np.float32], pooled: NDArray[np.float32] | None
    ) -> NDArray[np.float32]:
        """Upscale as `Backend.run`, with the whole image's pooled mean (N, C, 1, 1), if any."""


def longest_side(free: int, per_pixel: int, halo: int) -> int:
    """Return the side of the largest input for half of a device's memory, at least a small tile's.

    Args:
        free: free bytes of the device.
        per_pixel: bytes per low-resolution pixel.
        halo: of the tiles.
    """
    return max(math.isqrt(free // 2 // per_pixel), 2 * halo + _SMALLEST)


class Parts(Generic[T]):
    """Objects by name, each opened once, by the thread that first needs it."""

    def __init__(self, open_part: Callable[[str], T]) -> None:
        self._open = open_part
        self._opened: dict[str, T] = {}
        self._lock = Lock()

    def __getitem__(self, name: str) -> T:
        with self._lock:
            if name not in self._opened:
                self._opened[name] = self._open(name)
            return self._opened[name]

    def clear(self) -> list[T]:
        """Forget all objects and return those that were open."""
        with self._lock:
            parts, self._opened = list(self._opened.values()), {}
            return parts
