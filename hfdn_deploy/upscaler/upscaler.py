"""Upscaling images, with one network or with those that their sizes need."""

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
    """Upscales images with one network on one backend, or with two after one another.

        with Upscaler.load(4) as up:
            big = up(image)
            wide = up(image, size=(1920, None))

    Threads may share one; close it after the last. A process needs one of its own.
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
        self._keep(Networks.only(Network(backend, choice, ensemble, tile, max_memory)), None)

    def _keep(self, networks: Networks, target: TargetSize | None) -> None:
        """Keep the networks; those that every image needs are opened now."""
        self._networks = networks
        self.target = target or TargetSize(scale=networks.first.backend.scale)
        """What results measure unless a call says otherwise."""
        needed = networks_for(self.target.scale or 1, networks.scales)
        opened = [networks[scale] for scale in needed] or networks.opened
        self.scale: int = math.prod(needed) if needed else max(networks.scales)
        """Upscaling factor of the network, or of two that the target needs; then it is resized."""
        # Its threads start with the first image that is submitted.
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
            model: a scale (2, 3 or 4: the bundle that comes with the package; another one above
                1, such as 3.5 or 8: the next larger, or two after one another, and a resize), a
                bundle's directory, an engine (`.engine` or `.plan`, with its sidecar), or a
                `.safetensors` checkpoint (for backend "torch"). None for the bundles that come
                with the package, as `size` needs them, which is the one of scale 4 without it.
            backend: "auto" for the fastest measured that can run the model here (`choice` tells
                which and why), or one of `hfdn_deploy.backends.BACKENDS`, such as "openvino".
            precision: "fp32" (the default), "fp16", "int8", "bf16" (OpenVINO), "auto" (fastest).
            ensemble: HFDN+: average over eight flips and rotations; takes eight times as long.
            allow_ungated, trust, tile, max_memory: see `ModelOptions`.
            size: width and height of the results in pixels, one of which may be None, see
                `TargetSize`; None for the model's scale.

        Raises:
            InputError: there is no such model, precision, tile or size.
            BundleError, CheckpointError: the model is missing, damaged or something else.
            EngineError: the engine is for something else, was changed, or is not trusted.
            GateError: the graph did not pass its quality gate, and that is not allowed.
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
        """Open a model as a record of options says; errors as for `load`."""
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
        """What runs; of several networks, the one that was opened first."""
        return self._networks.first.backend

    @property
    def choice(self) -> str:
        """Which backend runs, and why that one; and in which precision, if that was "auto"."""
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
        """Decide how an image is upscaled: by which networks, and each whole or in which tiles.

        Args:
            shape: of the image, (H, W) or (H, W, C).
            held_as: dtype of the result if all of it will be in memory; None if its bands are
                let go as they come.
            number: of images of this shape that are upscaled at once.
            largest: side of a tile beyond which nothing is run in one go, so that it can be
                stopped soon; None for any size. Nothing where a tile was asked for.
            target: what the result measures; by default what the upscaler was loaded for. An
                image that is as large already is only resized.
            multiples: see `TargetSize.of`.

        Raises:
            InputError: no image has this shape, it would not fit into memory, or two networks do
                not reach the size. What `load` raises, where a network is opened.
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
        """Decide how so many images of one shape are upscaled, and prepare where it pays.

        That takes a second; see `Backend.prepare` for what it does to results.

        Args:
            shape, held_as, target, multiples: as for `plan`.
            number: of the images.
            threads: the most that shall follow the plan; by default as many as are of use.

        Returns:
            The plan of each, and how many threads shall follow it, each with an image of its own.

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
                on a GPU, with `__cuda_array_interface__` or `__dlpack__`, for a backend there.
            progress: called after each tile; never for an image that is upscaled whole.
            size: width and height of the result in pixels, one of which may be None, see
                `TargetSize`. What one network or two make is resized, bicubically and antialiased.
            scale: as `size`, as a multiple of the image. By default the upscaler's own.

        Returns:
            The same dtype and channels at (scale·H, scale·W), or of the size; where the image is.

        Raises:
            InputError: another shape or dtype, values out of range, or too large a result.
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
        """As `up(image)`, but in bands of rows: of a large result, no more need be in memory.

        What may be refused is refused at once; the work is done, and other errors come, as the
        bands are taken. Leave the image as it is until then.

        Args:
            image: as for `up(image)`, or what `hfdn_deploy.images.open_image` gives.
            plan: of `plan` for this shape; by default that for bands that are let go.
            progress: as for `up(image)`.
        """
        check_image(image)
        self._networks.check_usable()
        return running.upscaled(self._networks, image, plan or self.plan(image.shape), progress)

    def batch(self, images: Sequence[Image], progress: Progress | None = None) -> list[Image]:
        """Upscale images of one size, which may differ in dtype and channels.

        They run at once as far as memory and the engine's profiles allow, which on a CPU is no
        faster; those that need two networks take turns.

        Raises:
            InputError, BackendError: as for a single image, or the sizes differ.
        """
        self._networks.check_usable()
        return running.batched(self, self._networks, list(images), progress)

    def submit(
        self, image: Image, *, size: Size | None = None, scale: float | None = None
    ) -> Future[Image]:
        """Do `up(image)` in the background, for as many at once as the backend has use for."""
        self._networks.check_usable(threads=True)
        return self._workers.submit(self, image, size=size, scale=scale)

    def upscale_luma(
        self, luma: Plane, plan: ImagePlan | None = None, progress: Progress | None = None
    ) -> Plane:
        """Upscale one luma plane (H, W) in [0, 1], float32; the result is not clipped.

        Args:
            luma: the plane.
            plan: of `plan(luma.shape, held_as=np.float32)`, which is the default.
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
        """Free the backend; the upscaler cannot be used afterwards. Closing twice is no error."""
        if not self._networks.closed:
            self._networks.stop()
            self._workers.shutdown()
            self._networks.free()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
