"""Image array in, image array out."""

import logging
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NoReturn, Self

import numpy as np
from numpy.typing import DTypeLike

from hfdn_deploy.backends import Backend, open_backend, open_model
from hfdn_deploy.engines import Engine
from hfdn_deploy.errors import BackendError, HFDNError, InputError
from hfdn_deploy.images import (
    Banded,
    Image,
    ImagePlanes,
    Plane,
    Rows,
    check_image,
    check_shape,
    size_of,
)
from hfdn_deploy.options import ModelOptions, Tile
from hfdn_deploy.tiling import CLOSED, LumaUpscaler, Plan, Planner, Progress

logger = logging.getLogger(__name__)


class Upscaler:
    """Upscales images with one network on one backend.

        with Upscaler.load(4) as up:
            big = up(image)

    Several threads may use one at once, each with its own images; close it after the last. It
    belongs to its process: load another in each worker.
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
        self.choice = choice
        """Which backend runs, and why that one."""
        self._planner = Planner(backend, tile, max_memory)
        self._luma = LumaUpscaler(backend, ensemble)
        # Its threads start with the first image that is submitted.
        self._workers = ThreadPoolExecutor(backend.concurrency)
        self._process = os.getpid()

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
            precision: "fp32" (the default), "fp16", "int8" or, on OpenVINO, "bf16"; never replaced
                by another. An engine has one.
            ensemble: HFDN+: average over eight flips and rotations; takes eight times as long.
            allow_ungated: run a graph of a bundle even if its quality gate is missing or failed.
            trust: run an engine that this user did not build; it is native code.
            tile: side of the tiles that an image is upscaled in, in low-resolution pixels without
                their halo; None for the image whole; "auto" for the whole where that fits into
                `max_memory` (with "tensorrt": into the engine's profile), or the fastest tiles
                that do, which take longer. An engine alone runs no tiles. The result is the same.
            max_memory: bytes that the upscaling of an image may take, in each thread; by default
                half of what is free when the model is loaded, or, unless `tile` is "auto", all.

        Raises:
            InputError: there is no such model, precision or tile.
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
        source = open_model(options)
        own = source.manifest.precision if isinstance(source, Engine) else precision or "fp32"
        if precision not in (own, None):
            raise InputError(f"{model} is an engine in {own}, not {precision}; build another.")
        if isinstance(source, Engine) and isinstance(options.tile, int):
            raise BackendError(
                f"{model} holds the whole network, and tiles need parts of it; name its bundle, "
                f"{source.manifest.bundle}, or leave tile at 'auto' or None."
            )
        opened, choice = open_backend(options.backend, source, own)
        logger.info("backend: %s", choice if logger.isEnabledFor(logging.DEBUG) else opened.name)
        try:
            return cls(opened, choice, options.ensemble, options.tile, options.max_memory)
        except HFDNError:
            opened.close()
            raise

    @property
    def scale(self) -> int:
        """Upscaling factor."""
        return self.backend.scale

    def plan(
        self,
        shape: tuple[int, ...],
        held_as: DTypeLike | None = None,
        number: int = 1,
        largest: int | None = None,
    ) -> Plan:
        """Decide how an image is upscaled: whole, or in which tiles.

        Args:
            shape: of the image, (H, W) or (H, W, C).
            held_as: dtype of the result if all of it will be in memory; None if its bands are
                let go as they come.
            number: of images of this shape that are upscaled at once.
            largest: side of a tile beyond which nothing is run in one go, so that it can be
                stopped soon; None for any size. Nothing where a tile was asked for.

        Raises:
            InputError: no image has this shape, or it would not fit into memory.
        """
        check_shape(shape)
        height, width, channels = size_of(shape)
        values = number * self.scale**2 * height * width * channels
        held = 0 if held_as is None else values * np.dtype(held_as).itemsize
        ensemble = self._luma.ensemble
        return self._planner.plan(
            height, width, channels, ensemble=ensemble, held=held, number=number, largest=largest
        )

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
            BackendError: the backend failed, or gave a wrong shape or NaN.
        """
        check_image(image)
        plan = self.plan(image.shape, held_as=image.dtype)
        return self._stream(image, plan, progress).whole()

    def stream(
        self, image: Image | Rows, plan: Plan | None = None, progress: Progress | None = None
    ) -> Banded:
        """As `up(image)`, but in bands of rows: of a large result, no more need be in memory.

        What may be refused is refused at once; the work is done, and the errors of the backend
        and of an image that is read meanwhile come, as the bands are taken. Leave the image as it
        is until then.

        Args:
            image: as for `up(image)`, or what `hfdn_deploy.images.open_image` gives.
            plan: of `plan` for this shape; by default that for bands that are let go.
            progress: as for `up(image)`.
        """
        check_image(image)
        return self._stream(image, plan or self.plan(image.shape), progress)

    def _stream(self, image: Image | Rows, plan: Plan, progress: Progress | None) -> Banded:
        self._check_process(self.backend.forks)
        planes = ImagePlanes(image)
        height, width, *channels = image.shape
        shape = self.scale * height, self.scale * width, *channels
        bands = self._luma.bands(planes, plan, progress)
        return Banded(shape, image.dtype, planes.with_luma(bands))

    def batch(self, images: Sequence[Image], progress: Progress | None = None) -> list[Image]:
        """Upscale images of one size, which may differ in dtype and channels.

        They are run at once as far as memory and the engine's profiles allow, which on a CPU is
        no faster than one after the other.

        Raises:
            InputError, BackendError: as for a single image, or the sizes differ.
        """
        self._check_process(self.backend.forks)
        images = list(images)  # or an array of four dimensions
        for image in images:
            check_image(image)
        sizes = sorted({image.shape[:2] for image in images})
        if len(sizes) > 1:
            raise InputError(f"a batch of sizes {sizes}; give it images of one size.")
        if not images:
            return []
        most = self.backend.max_batch(*sizes[0]) or len(images)
        done: list[Image] = []
        for start in range(0, len(images), most):
            done += self._batch(images[start : start + most], progress)
        return done

    def _batch(self, images: Sequence[Image], progress: Progress | None) -> list[Image]:
        """Images of one size at once, if they fit into memory whole, else one by one."""
        largest = max((image.shape for image in images), key=lambda shape: size_of(shape)[2])
        widest = max((image.dtype for image in images), key=lambda dtype: dtype.itemsize)
        single = len(images) == 1  # whose plan `self` decides
        if single or self.plan(largest, widest, len(images)).side or self._luma.ensemble:
            return [self(image, progress) for image in images]
        planes = [ImagePlanes(image) for image in images]
        lumas = self._luma.whole(np.stack([each.luma for each in planes]))
        shape = lumas.shape[1:]
        return [
            Banded((*shape, *image.shape[2:]), image.dtype, each.with_luma([luma])).whole()
            for image, each, luma in zip(images, planes, lumas, strict=True)
        ]

    def submit(self, image: Image) -> Future[Image]:
        """Upscale an image in the background, as many at once as the backend has use for.

        Returns:
            A future that gives what `up(image)` would return or raise.
        """
        self._check_process(False)
        if self._luma.closed:
            raise BackendError(CLOSED)
        return self._workers.submit(self, image)

    def upscale_luma(
        self, luma: Plane, plan: Plan | None = None, progress: Progress | None = None
    ) -> Plane:
        """Upscale one luma plane (H, W) in [0, 1], float32; the result is not clipped.

        Args:
            luma: the plane.
            plan: of `plan(luma.shape, held_as=np.float32)`, which is the default.
            progress: as for `up(image)`.

        Raises:
            InputError, BackendError: as for a whole image.
        """
        self._check_process(self.backend.forks)
        plan = plan or self.plan(luma.shape, held_as=np.float32)
        return self._luma.plane(luma, plan, progress)

    def _check_process(self, forks: bool) -> None:
        """Refuse what would wait for threads that stayed behind in a fork."""
        if not forks and os.getpid() != self._process:
            reason = f"{self.backend.name} was opened before this process forked"
            raise BackendError(reason, "load it in the worker")

    def __reduce__(self) -> NoReturn:
        raise InputError("an upscaler cannot be pickled or copied", "load it in the worker")

    def close(self) -> None:
        """Free the backend; the upscaler cannot be used afterwards. Closing twice is no error."""
        if not self._luma.closed:
            self._luma.closed = True
            self._workers.shutdown()
            self.backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
