"""Upscaling images with one network, or with the networks that their sizes need."""

import math
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NoReturn, Self

import numpy as np
from numpy.typing import DTypeLike

from hfdn_deploy.backends import Backend
from hfdn_deploy.cuda import is_device_array
from hfdn_deploy.errors import HFDNError, InputError
from hfdn_deploy.images import Banded, Image, Plane, Rows, check_image
from hfdn_deploy.options import ModelOptions, Size, TargetSize, Tile, model_and_scale, target_of
from hfdn_deploy.tiling import Progress
from hfdn_deploy.upscaler import running
from hfdn_deploy.upscaler.network import Network, Networks
from hfdn_deploy.upscaler.planning import (
    ImagePlan,
    PlanRequest,
    networks_for,
    plan_image,
    plan_many,
)


class Upscaler:
    """Upscales images with one network on one backend, or with two networks in a row.

        with Upscaler.load(4) as up:
            big = up(image)
            wide = up(image, size=(1920, None))

    Threads may share an upscaler; close it after the last use. Each process needs its own.
    """

    def __init__(
        self,
        backend: Backend,
        choice: str,
        ensemble: bool = False,
        tile: Tile = "auto",
        max_memory: int | None = None,
    ) -> None:
        """Wrap an opened backend; usually, call `Upscaler.load` instead."""
        self._keep(Networks.only(Network(backend, choice, ensemble, tile, max_memory)), None)

    def _keep(self, networks: Networks, target: TargetSize | None) -> None:
        """Keep the networks, and open those that every image needs."""
        self._networks = networks
        self.target = target or TargetSize(scale=networks.first.backend.scale)
        """The default size of results."""
        needed = networks_for(self.target.scale or 1, networks.scales)
        opened = [networks[scale] for scale in needed] or networks.opened
        self.scale: int = math.prod(needed) if needed else max(networks.scales)
        """Upscaling factor of the network or networks for the target, before any resizing."""
        # The threads start with the first submitted image.
        concurrency = max((network.backend.concurrency for network in opened), default=1)
        self._workers = ThreadPoolExecutor(concurrency)

    @classmethod
    def load(
        cls,
        model: float | str | os.PathLike[str] | None = None,
        backend: str = "auto",
        precision: str | None = None,
        ensemble: bool = False,
        allow_ungated: bool = False,
        trust: bool = False,
        tile: Tile = "auto",
        max_memory: int | None = None,
        size: Size | None = None,
    ) -> Self:
        """Open a model.

        Args:
            model: a scale (2, 3 or 4: the package's bundle; another scale above 1, such as 3.5 or
                8: one or two of these networks, then a resize), a bundle's directory, an engine
                (`.engine` or `.plan`, with its sidecar), or a `.safetensors` checkpoint (for
                backend "torch"). None for those of the package's bundles that `size` needs, or
                without `size` the bundle of scale 4.
            backend: "auto" for the backend measured as fastest that can run the model here
                (`choice` explains it), or a key of `hfdn_deploy.backends.BACKENDS`.
            precision: "fp32" (the default), "fp16", "int8", "bf16" (OpenVINO), "auto" (fastest).
            ensemble: HFDN+: average over eight flips and rotations; takes eight times as long.
            allow_ungated, trust, tile, max_memory: see `ModelOptions`.
            size: width and height of the results in pixels, either of which may be None, see
                `TargetSize`; None for the model's scale.

        Raises:
            InputError: the model, precision, tile or size is not known or not valid.
            BundleError, CheckpointError: the model is missing, damaged or of another kind.
            EngineError: the engine is for other hardware or software, changed, or not trusted.
            GateError: the graph failed its quality gate, and `allow_ungated` is false.
            BackendError: the backend is unknown, not installed or cannot run this model.
        """
        named, scale = model_and_scale(model)
        return cls.open(
            ModelOptions(
                model=named,
                backend=backend,
                precision=precision,
                ensemble=ensemble,
                tile=tile,
                max_memory=max_memory,
                allow_ungated=allow_ungated,
                trust=trust,
                target=target_of(size, scale),
            )
        )

    @classmethod
    def open(cls, options: ModelOptions) -> Self:
        """Open the model of a record of options; errors as for `load`."""
        target = options.target or (TargetSize(scale=4) if options.model is None else None)
        up = cls.__new__(cls)
        networks = Networks.of(options)
        try:
            up._keep(networks, target)
        except HFDNError:
            networks.free()
            raise
        return up

    @property
    def backend(self) -> Backend:
        """The backend of the network, or of the first opened of several."""
        return self._networks.first.backend

    @property
    def choice(self) -> str:
        """The backend that runs, why it was chosen, and the precision if that was "auto"."""
        return self._networks.choice

    def plan(
        self,
        shape: tuple[int, ...],
        held_as: DTypeLike | None = None,
        number: int = 1,
        largest: int | None = None,
        target: TargetSize | None = None,
        multiples: tuple[int, int] = (1, 1),
    ) -> ImagePlan:
        """Plan an image: by which networks it is upscaled, and whether whole or in which tiles.

        Args:
            shape: shape of the image, (H, W) or (H, W, C).
            held_as: dtype of the result if the whole result is kept in memory; None if its bands
                are released one by one.
            number: how many images of this shape are upscaled at once.
            largest: limit of a tile's side, so that a run can be stopped soon; None for any.
                Ignored if the upscaler has an explicit tile size.
            target: size of the result; by default the upscaler's. A larger image is only resized.
            multiples: see `TargetSize.of`.

        Raises:
            InputError: the shape is not that of an image, the image would not fit into memory, or
                two networks do not reach the size. Errors of `load` if a network is opened.
        """
        itemsize = 0 if held_as is None else np.dtype(held_as).itemsize
        asked = PlanRequest(shape, target or self.target, itemsize, number, largest, multiples)
        plan = plan_image(self._networks, asked)
        plan.mention(asked.target)
        return plan

    def plan_many(
        self,
        shape: tuple[int, ...],
        held_as: DTypeLike,
        number: int,
        target: TargetSize | None = None,
        multiples: tuple[int, int] = (1, 1),
        threads: int | None = None,
    ) -> tuple[ImagePlan, int]:
        """Plan `number` images of one shape, and prepare the backend where that pays.

        Preparing takes a second; `Backend.prepare` describes its effect on results.

        Args:
            shape, held_as, target, multiples: as for `plan`.
            number: how many images there are.
            threads: limit of the number of threads; by default as many as are of use.

        Returns:
            The plan of each image, and how many threads should run it, each on its own image.

        Raises:
            InputError: as for `plan`.
        """
        itemsize = np.dtype(held_as).itemsize
        asked = PlanRequest(shape, target or self.target, itemsize, multiples=multiples)
        plan, found = plan_many(self._networks, asked, number, threads)
        plan.mention(asked.target)
        return plan, found

    def __call__(
        self,
        image: Image,
        progress: Progress | None = None,
        *,
        size: Size | None = None,
        scale: float | None = None,
    ) -> Image:
        """Upscale one image: luma through the network, chroma and alpha bicubically.

        Args:
            image: (H, W) or (H, W, 1) grey, (H, W, 2) grey and alpha, (H, W, 3) RGB or
                (H, W, 4) RGBA, alpha straight; uint8, uint16, or float32 in [0, 1]. Or uint8 RGB
                on a GPU, with `__cuda_array_interface__` or `__dlpack__`, for a backend on it.
            progress: called after each tile; never for an image that is upscaled whole.
            size: width and height of the result in pixels, either of which may be None, see
                `TargetSize`. Resizing after the networks is bicubic and antialiased.
            scale: the size as a multiple of the image's. By default that of the upscaler.

        Returns:
            The same dtype and channels at (scale·H, scale·W) or `size`, on the input's device.

        Raises:
            InputError: shape, dtype or values are not valid, or the result is too large.
            BackendError: the backend failed, or gave a wrong shape or NaN.
        """
        target = target_of(size, scale)
        if is_device_array(image):
            return running.upscaled_on_device(self, self._networks, image, target)
        check_image(image)
        plan = self.plan(image.shape, held_as=image.dtype, target=target)
        return self.stream(image, plan, progress).whole()

    def stream(
        self, image: Image | Rows, plan: ImagePlan | None = None, progress: Progress | None = None
    ) -> Banded:
        """Upscale as `up(image)`, but to bands of rows, so that a large result needs little memory.

        Unusable input is refused at once; the work is done, and other errors are raised, as the
        bands are read. Do not change the image before then.

        Args:
            image: as for `up(image)`, or from `hfdn_deploy.images.open_image`.
            plan: from `plan` for this shape; by default the plan for bands that are released.
            progress: as for `up(image)`.
        """
        check_image(image)
        self._networks.check_usable()
        return running.upscaled(self._networks, image, plan or self.plan(image.shape), progress)

    def batch(self, images: Sequence[Image], progress: Progress | None = None) -> list[Image]:
        """Upscale images of one size, which may differ in dtype and channels.

        They run at once if memory and the engine's profiles allow it, which is not faster on a
        CPU; images that need two networks run one by one.

        Raises:
            InputError: as for a single image, or the sizes differ.
            BackendError: as for a single image.
        """
        self._networks.check_usable()
        return running.batched(self, self._networks, list(images), progress)

    def submit(
        self, image: Image, *, size: Size | None = None, scale: float | None = None
    ) -> Future[Image]:
        """Run `up(image)` in the background, with as many at once as the backend can use."""
        self._networks.check_usable(threads=True)
        return self._workers.submit(self, image, size=size, scale=scale)

    def upscale_luma(
        self, luma: Plane, plan: ImagePlan | None = None, progress: Progress | None = None
    ) -> Plane:
        """Upscale one luma plane (H, W) in [0, 1], float32; the result is not clipped.

        Args:
            luma: the plane.
            plan: by default `plan(luma.shape, held_as=np.float32)`.
            progress: as for `up(image)`.

        Raises:
            InputError, BackendError: as for a whole image.
        """
        self._networks.check_usable()
        plan = plan or self.plan(luma.shape, held_as=np.float32)
        lumas = running.enlarged(self._networks, luma, plan, progress)
        return running.finished_luma(lumas, plan)

    def __reduce__(self) -> NoReturn:
        raise InputError("an upscaler cannot be pickled or copied", "load it in the worker")

    def close(self) -> None:
        """Free the backend; the upscaler cannot be used afterwards. Closing twice is allowed."""
        if not self._networks.closed:
            self._networks.stop()
            self._workers.shutdown()
            self._networks.free()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
