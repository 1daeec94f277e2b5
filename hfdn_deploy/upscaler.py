"""Image array in, image array out."""

import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from hfdn_deploy import tiling
from hfdn_deploy.backends import Backend, Model, TilingBackend, open_backend
from hfdn_deploy.bundle import Bundle, pretrained
from hfdn_deploy.engines import ENGINE_SUFFIXES, Engine, open_engine
from hfdn_deploy.errors import BackendError, HFDNError, InputError
from hfdn_deploy.images import Banded, Image, ImagePlanes, Plane, Rows, check_image
from hfdn_deploy.options import ModelOptions, Tile
from hfdn_deploy.tiling import TileChoice, Tiling

logger = logging.getLogger(__name__)

CLOSED = "this upscaler is closed; load a new one."
CHECKPOINT_SUFFIX = ".safetensors"

Progress = Callable[[int, int], object]
"""Called with the pixels that are done and all there are to do."""


class Upscaler:
    """Upscales images with one network on one backend.

        with Upscaler.load(4) as up:
            big = up(image)

    Several threads may use one at once, each with its own images; close it after the last.
    """

    def __init__(
        self,
        backend: Backend,
        choice: str,
        ensemble: bool = False,
        tile: Tile = "auto",
        max_memory: int | None = None,
    ) -> None:
        """Wrap an opened backend; most callers want `Upscaler.load`."""
        self.backend = backend
        self.ensemble = ensemble
        self._tiles = TileChoice(backend, tile, max_memory)
        self._closed = False
        self._workers: ThreadPoolExecutor | None = None
        self.choice = choice
        """Which backend runs, and why that one."""

    @classmethod
    def load(
        cls,
        model: int | str | os.PathLike[str] = 4,
        backend: str = "auto",
        precision: str | None = None,
        ensemble: bool = False,
        allow_ungated: bool = False,
        trust: bool = False,
        tile: Tile = "auto",
        max_memory: int | None = None,
    ) -> Self:
        """Open a model.

        Args:
            model: a scale (2, 3 or 4: the bundle that comes with the package), a bundle's
                directory, an engine (`.engine` or `.plan`, with its sidecar), or a
                `.safetensors` checkpoint (for backend "torch").
            backend: "auto", "tensorrt", "rtx-ep", "cuda", "openvino", "onnxruntime" or "torch".
                `auto` takes the fastest measured that can run the model here; `choice` tells
                which and why. "tensorrt" takes the engine of a bundle from the user's cache, and
                builds it if need be.
            precision: "fp32" (the default), "fp16", "int8" or, on OpenVINO, "bf16"; never
                replaced by another. For "int8" a backend on a CPU takes the bundle's graph for
                CPUs. An engine has one.
            ensemble: HFDN+: average over the eight flips and rotations of the input, before
                rounding; takes eight times as long.
            allow_ungated: run a graph of a bundle even if its quality gate is missing or failed.
            trust: run an engine that this user did not build; it is native code.
            tile: side of the tiles that a picture is upscaled in, in low-resolution pixels
                without their halo; None for the picture whole; "auto" for the whole where that
                fits into `max_memory` (with "tensorrt": into the engine's profile), or the
                fastest tiles that do. An engine alone runs no tiles. The result is the same, to
                rounding. Tiles take longer: the halos, and, where memory does not suffice to keep
                what is computed on the way to the whole picture's mean, computing that again.
            max_memory: bytes that the upscaling of a picture may take, in each thread; by default
                half of what is free when the model is loaded, or, unless `tile` is "auto", all.

        Raises:
            InputError: there is no such precision or tile.
            BundleError, CheckpointError: the model is missing, damaged or something else.
            EngineError: the engine is for something else, was changed, or is not trusted.
            GateError: the graph did not pass its quality gate, and that is not allowed.
            BackendError: the backend is unknown, not installed or cannot run this model.
        """
        return cls.open(
            ModelOptions(
                model=model,
                backend=backend,
                precision=precision,
                ensemble=ensemble,
                tile=tile,
                max_memory=max_memory,
                allow_ungated=allow_ungated,
                trust=trust,
            )
        )

    @classmethod
    def open(cls, options: ModelOptions) -> Self:
        """Open a model as a record of options says; errors as for `load`."""
        model, precision = options.model, options.precision
        source = _open(model, options.allow_ungated, options.trust)
        own = source.manifest.precision if isinstance(source, Engine) else precision or "fp32"
        if precision not in (own, None):
            raise InputError(f"{model} is an engine in {own}, not {precision}; build another.")
        if isinstance(source, Engine) and isinstance(options.tile, int):
            raise BackendError(
                f"{model} holds the whole network, and tiles need parts of it; name its bundle, "
                f"{source.manifest.bundle}, or leave tile at 'auto' or None."
            )
        opened, choice = open_backend(options.backend, source, own)
        logger.info("backend: %s", choice)
        try:
            return cls(opened, choice, options.ensemble, options.tile, options.max_memory)
        except HFDNError:
            opened.close()
            raise

    @property
    def scale(self) -> int:
        """Upscaling factor."""
        return self.backend.scale

    def tile_for(self, shape: tuple[int, ...], held: int = 0, number: int = 1) -> int | None:
        """The side of the tiles in which an image (H, W) or (H, W, C) is upscaled; None if whole.

        Args:
            shape: of the image.
            held: bytes of the results, as far as they are not written as they come.
            number: of images of this shape that are upscaled at once.

        Raises:
            InputError: it would not fit into memory.
        """
        way = self._tiles.tiling(shape, self.ensemble, held, number)
        return way.side if way else None

    def __call__(self, image: Image, progress: Progress | None = None) -> Image:
        """Upscale one image: luma through the network, chroma and alpha bicubically.

        Args:
            image: (H, W) or (H, W, 1) grey, (H, W, 2) grey and alpha, (H, W, 3) RGB or
                (H, W, 4) RGBA, alpha straight; uint8, uint16, or float32 in [0, 1].
            progress: called after each tile; never for an image that is upscaled whole.

        Returns:
            The same dtype and channels at (scale·H, scale·W).

        Raises:
            InputError: another shape or dtype, values out of range, or too large for memory.
            BackendError: the engine failed, or gave a wrong shape or NaN.
        """
        check_image(image)
        return self.stream(image, progress, self._held([image])).whole()

    def stream(
        self, image: Image | Rows, progress: Progress | None = None, held: int = 0
    ) -> Banded:
        """As `up(image)`, but in bands of rows: of a large result, no more need be in memory.

        What may be refused is refused at once; the work is done, and the errors of the engine and
        of an image that is read meanwhile come, as the bands are taken. Leave the image as it is
        until then.

        Args:
            image: as for `up(image)`, or what `hfdn_deploy.images.open_image` gives.
            progress: as for `up(image)`.
            held: bytes of the result that will be kept nevertheless; see `tile_for`.
        """
        check_image(image)
        way = self._tiles.tiling(image.shape, self.ensemble, held, 1)
        picture = ImagePlanes(image)
        height, width, *channels = image.shape
        shape = self.scale * height, self.scale * width, *channels
        return Banded(shape, image.dtype, picture.with_luma(self._upscale(picture, way, progress)))

    def batch(self, images: Sequence[Image], progress: Progress | None = None) -> list[Image]:
        """Upscale images of one size, which may differ in dtype and channels.

        They are run at once where memory and the engine's profiles allow, which on a CPU is no
        faster than one after the other, and one after the other where they do not.

        Raises:
            InputError, BackendError: as for a single image, or the sizes differ.
        """
        for image in images:
            check_image(image)
        if len({image.shape[:2] for image in images}) > 1:
            sizes = sorted({image.shape[:2] for image in images})
            raise InputError(f"a batch of sizes {sizes}; give it images of one size.")
        if not images:
            return []
        largest = max((image.shape for image in images), key=lambda shape: (*shape, 1)[2])
        if self.tile_for(largest, self._held(images), len(images)) is not None or self.ensemble:
            return [self(image, progress) for image in images]
        pictures = [ImagePlanes(image) for image in images]
        try:
            lumas = self._run(np.stack([picture.luma for picture in pictures]))
        except InputError:  # an engine that was not built for so many at once
            return [self(image, progress) for image in images]
        shape = lumas.shape[1:]
        return [
            Banded((*shape, *image.shape[2:]), image.dtype, picture.with_luma([luma])).whole()
            for image, picture, luma in zip(images, pictures, lumas, strict=True)
        ]

    def _held(self, images: Sequence[Image]) -> int:
        return self.scale**2 * sum(image.nbytes for image in images)

    def submit(self, image: Image) -> Future[Image]:
        """Upscale an image in the background, as many at once as the backend has use for.

        Returns:
            A future that gives what `up(image)` would return or raise.
        """
        if self._closed:
            raise BackendError(CLOSED)
        if self._workers is None:
            self._workers = ThreadPoolExecutor(self.backend.concurrency)
        return self._workers.submit(self, image)

    def upscale_luma(self, luma: Plane, progress: Progress | None = None) -> Plane:
        """Upscale one luma plane (H, W) in [0, 1], float32; the result is not clipped.

        Raises:
            InputError, BackendError: as for a whole image.
        """
        way = self._tiles.tiling(luma.shape, self.ensemble, self._held([luma]), 1)
        return self._joined(luma.shape, self._upscale(luma, way, progress))

    def _upscale(
        self, source: tiling.LumaSource, way: Tiling | None, progress: Progress | None
    ) -> Iterator[Plane]:
        """Luma (H, W) to bands of (sH, sW)."""
        backend = self.backend
        passes = 2 if isinstance(backend, TilingBackend) and backend.pools else 1
        work = math.prod(source.shape) * passes * (8 if self.ensemble else 1)
        count = _counter(progress, work)
        if not self.ensemble:
            yield from self._bands(source, way, count)
            return
        luma = source[:, :]
        total = np.zeros([self.scale * length for length in luma.shape], np.float32)
        for turns in range(4):
            for flip in (1, -1):
                turned = np.rot90(luma, turns)[:, ::flip]
                sr = self._joined(turned.shape, self._bands(turned, way, count))
                total += np.rot90(sr[:, ::flip], -turns)
        total /= 8
        yield total

    def _bands(
        self, source: tiling.LumaSource, way: Tiling | None, count: Callable[[int], object]
    ) -> Iterator[Plane]:
        backend = self.backend
        if way is None or not isinstance(backend, TilingBackend):
            yield self._run(source[:, :][None])[0]
            return
        height, width = source.shape
        tiles = tiling.plan(height, width, way.side, backend.halo)
        if self._closed:
            raise BackendError(CLOSED)
        split = backend.split if way.keeps else None
        for band in tiling.upscale(backend, source, tiles, count, split):
            yield band
            if self._closed:  # while the caller had the band
                raise BackendError(CLOSED)

    def _run(self, lumas: Plane) -> Plane:
        """Luma planes (N, H, W) whole."""
        if self._closed:
            raise BackendError(CLOSED)
        return tiling.upscale_whole(self.backend, lumas)

    def _joined(self, shape: tuple[int, ...], bands: Iterator[Plane]) -> Plane:
        """The bands of upscaled luma of this shape in one array."""
        height, width = (self.scale * length for length in shape)
        return Banded((height, width), np.dtype(np.float32), bands).whole()

    def close(self) -> None:
        """Free the engine; the upscaler cannot be used afterwards. Closing twice is no error."""
        if not self._closed:
            self._closed = True
            if self._workers:
                self._workers.shutdown()
            self.backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _counter(progress: Progress | None, total: int) -> Callable[[int], object]:
    """What adds up pixels and reports them."""
    done = 0

    def count(pixels: int) -> None:
        nonlocal done
        done += pixels
        if progress:
            progress(done, total)

    return count


def _open(model: int | str | os.PathLike[str], allow_ungated: bool, trust: bool) -> Model:
    if isinstance(model, int | np.integer):
        return pretrained(int(model))
    path = Path(model)
    if path.suffix.lower() in ENGINE_SUFFIXES:
        return open_engine(path, trust, allow_ungated)
    return path if path.suffix.lower() == CHECKPOINT_SUFFIX else Bundle(path, allow_ungated)
