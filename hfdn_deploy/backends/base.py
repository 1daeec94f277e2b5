"""What every backend is, and what those that run tiles have besides."""

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
"""What a backend can open: a bundle, an engine, or the path of a checkpoint."""

Features = Mapping[str, NDArray[Any]]
"""What a part of a network computed for another, (N, C, H, W) by name, in types of its own."""

T = TypeVar("T")

# Side of the smallest tiles that are chosen where memory is short.
_SMALLEST = 16


class Backend(ABC):
    """A network ready to run.

    `why_unavailable` and `open` are for those in `BACKENDS`; one that a program makes itself
    needs `name`, `scale`, `run` and `close`.
    """

    name: ClassVar[str]
    """As in `BACKENDS`."""
    scale: int
    """Upscaling factor."""
    precision: str = "fp32"
    """Of the graph that runs."""
    forks: ClassVar[bool] = False
    """Whether `run` works in a process that was forked after the backend was opened; tried."""
    concurrency: int = 1
    """How many calls of `run` from as many threads overlap to some use."""
    streams: int = 1
    """How many calls of `run` are of use at once that are prepared for, each on a part of a CPU."""
    takes_images: bool = False
    """Whether `run_images` takes RGB images, which spares them `run` and the work around it."""
    tiling: "Tiling | None" = None
    """What tiles need; None if it runs whole images alone."""

    @classmethod
    def why_unavailable(cls) -> Obstacle | None:
        """Why the backend cannot run here; None if it can.

        This is tried, not looked up: an installed package can still be broken or lack its device.
        """
        return None

    @classmethod
    def why_slow(cls, precision: str) -> Obstacle | None:
        """Why a precision is no faster than fp32 here, where its record says it is; else None."""
        return None

    @classmethod
    def open(cls, model: Any, precision: str) -> Self:
        """Open a model of a kind that its record names.

        Raises:
            BundleError, CheckpointError, EngineError: the model is not usable.
            GateError: its graph did not pass its gates.
            BackendError: the library has no such precision or refuses the graph.
        """
        raise NotImplementedError

    @abstractmethod
    def run(self, lr: NDArray[np.float32]) -> NDArray[np.float32]:
        """Upscale luma (N, 1, H, W) in [0, 1] to (N, 1, sH, sW); not clipped."""

    def run_images(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Upscale RGB images (N, H, W, 3) to (N, sH, sW, 3), as `hfdn_deploy.graph.image_graph`."""
        raise NotImplementedError

    @abstractmethod
    def close(self) -> None:
        """Free what the backend holds; `run` must not be called afterwards."""

    def trim(self) -> None:  # noqa: B027 (many keep nothing)
        """Give back the memory that is kept for the next `run`; that will take longer.

        Others may run meanwhile.
        """

    def prepare(self, height: int, width: int, number: int) -> None:  # noqa: B027 (as above)
        """Make `run` faster for single inputs of a size that will come often, if that is possible.

        It takes a second. What `run` gives for the size may then differ as far as the gate of the
        graph allows, as it may between machines. One size is prepared at a time.

        Args:
            height, width: of the inputs.
            number: of threads, at most `streams`, that will call `run` at the same time. Each has
                its part of the CPU, so fewer of them are slower.

        Raises:
            BackendError: the library refuses.
        """

    def max_batch(self, height: int, width: int) -> int | None:
        """The most images of a size that one call of `run` takes; None where memory decides."""
        return None

    def seconds(self) -> float | None:
        """What the last `run` computed for, without transfers, by the clock of the device.

        For one thread; None where the device has no clock of its own.
        """
        return None


class SplitNetwork(ABC):
    """A network in two, so that no tile's way to the pooled mean is gone twice."""

    halo: int
    """Low-resolution pixels of features around an output pixel's own that can change it."""
    memory: int
    """Bytes of features for each low-resolution pixel."""

    @abstractmethod
    def trunk(
        self, lr: NDArray[np.float32], inside: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], Features]:
        """As `Tiling.pooled_sums`, with the features that the heads start from."""

    @abstractmethod
    def heads(
        self, lr: NDArray[np.float32], features: Features, pooled: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """As `Tiling.run_tile`, from the features of these very pixels."""


class Tiling(ABC):
    """How a backend runs parts of an image; `hfdn_deploy.tiling` joins them."""

    scale: int
    """Of the backend."""
    halo: int
    """Low-resolution pixels around an output pixel's own that can change it, pooling aside."""
    pools: bool
    """Whether every output pixel also depends on a mean over the whole image."""
    memory: int | None = None
    """Bytes at the peak for each low-resolution pixel of one input, of all that is run for it.

    Measured; None where it has not been.
    """
    overhead: int = 0
    """Bytes that it takes whatever the size."""
    largest: int | None = None
    """The longest side of an input that it takes, halo and all; None if memory alone decides."""

    @property
    def split(self) -> SplitNetwork | None:
        """The same network in two; None if it is not cut, or there is no pooling to cut it at."""
        return None

    @property
    def repeated(self) -> "Tiling":
        """The same for many tiles of one shape; it may take longer to start, and less for each."""
        return self

    @abstractmethod
    def pooled_sums(
        self, lr: NDArray[np.float32], inside: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Sums (N, C, 1, 1) of what is pooled, over the pixels where `inside` is 1.

        Args:
            lr: luma (N, 1, H, W) in [0, 1].
            inside: (N, 1, H, W), 1 for a pixel that counts and 0 for one that does not.
        """

    @abstractmethod
    def run_tile(
        self, lr: NDArray[np.float32], pooled: NDArray[np.float32] | None
    ) -> NDArray[np.float32]:
        """As `Backend.run`, with the mean (N, C, 1, 1) over the whole image; None if none pools."""


def longest_side(free: int, per_pixel: int, halo: int) -> int:
    """The side of the largest input that fits into half of a device's memory, or of a small tile.

    Args:
        free: bytes of the device that are free.
        per_pixel: bytes that a low-resolution pixel takes.
        halo: of the tiles.
    """
    return max(math.isqrt(free // 2 // per_pixel), 2 * halo + _SMALLEST)


class Parts(Generic[T]):
    """Things by name, each opened when it is first asked for, once, by whichever thread asks."""

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
        """Forget all of them; returns those that were open."""
        with self._lock:
            parts, self._opened = list(self._opened.values()), {}
            return parts
