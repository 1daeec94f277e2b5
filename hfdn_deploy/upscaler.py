"""Image array in, image array out."""

import logging
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import psutil

from hfdn_deploy.backends import Backend, Model, open_backend
from hfdn_deploy.bundle import Bundle, pretrained
from hfdn_deploy.colour import Plane, check, merge, split
from hfdn_deploy.engines.engine import ENGINE_SUFFIXES, Engine, open_engine
from hfdn_deploy.errors import BackendError, InputError
from hfdn_deploy.images import Image
from hfdn_deploy.manifest import PRECISIONS

logger = logging.getLogger(__name__)

CLOSED = "this upscaler is closed; load a new one."
CHECKPOINT_SUFFIX = ".safetensors"

# What ONNX Runtime's arena holds at the peak in fp32, fitted to `python -m benchmarks memory`.
BYTES_PER_INPUT_PIXEL = 4800
BYTES_PER_OUTPUT_PIXEL = 500


class Upscaler:
    """Upscales images with one network on one backend.

        with Upscaler.load(4) as up:
            big = up(image)

    Several threads may use one at once, each with its own images; close it after the last.
    """

    def __init__(self, backend: Backend, choice: str, ensemble: bool = False) -> None:
        """Wrap an opened backend; most callers want `Upscaler.load`."""
        self.backend = backend
        self.ensemble = ensemble
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
    ) -> Self:
        """Open a model.

        Args:
            model: a scale (2, 3 or 4: the bundle that comes with the package), a bundle's
                directory, an engine (`.engine` or `.plan`, with its sidecar), or a
                `.safetensors` checkpoint (for backend "torch").
            backend: "auto", "tensorrt", "rtx-ep", "cuda", "onnxruntime" or "torch". `auto` takes
                the first that can run the model here; `choice` tells which and why. "tensorrt"
                takes the engine of a bundle from the user's cache, and builds it if need be.
            precision: "fp32" (the default), "fp16" or "int8"; never replaced by another. For
                "int8" a backend on a CPU takes the bundle's graph for CPUs. An engine has one.
            ensemble: HFDN+: average over the eight flips and rotations of the input, before
                rounding; takes eight times as long.
            allow_ungated: run a graph of a bundle even if its quality gate is missing or failed.
            trust: run an engine that this user did not build; it is native code.

        Raises:
            InputError: there is no such precision.
            BundleError, CheckpointError: the model is missing, damaged or something else.
            EngineError: the engine is for something else, was changed, or is not trusted.
            GateError: the graph did not pass its quality gate, and that is not allowed.
            BackendError: the backend is unknown, not installed or cannot run this model.
        """
        if precision not in (*PRECISIONS, None):
            known = ", ".join(PRECISIONS)
            raise InputError(f"there is no precision {precision!r}; choose one of {known}.")
        source = _open(model, allow_ungated, trust)
        own = source.manifest.precision if isinstance(source, Engine) else precision or "fp32"
        if precision not in (own, None):
            raise InputError(f"{model} is an engine in {own}, not {precision}; build another.")
        opened, choice = open_backend(backend, source, own)
        logger.info("backend: %s", choice)
        return cls(opened, choice, ensemble)

    @property
    def scale(self) -> int:
        """Upscaling factor."""
        return self.backend.scale

    def __call__(self, image: Image) -> Image:
        """Upscale one image: luma through the network, chroma and alpha bicubically.

        Args:
            image: (H, W) or (H, W, 1) grey, (H, W, 2) grey and alpha, (H, W, 3) RGB or
                (H, W, 4) RGBA, alpha straight; uint8, uint16, or float32 in [0, 1].

        Returns:
            The same dtype and channels at (scale·H, scale·W).

        Raises:
            InputError: another shape or dtype, values out of range, or too large for memory.
            BackendError: the engine failed, or gave a wrong shape or NaN.
        """
        return self.batch([image])[0]

    def batch(self, images: Sequence[Image]) -> list[Image]:
        """Upscale images of one size, which may differ in dtype and channels, in one run.

        On a CPU this is no faster than one after the other.

        Raises:
            InputError, BackendError: as for a single image, or the sizes differ.
        """
        for image in images:
            check(image)
        sizes = {image.shape[:2] for image in images}
        if len(sizes) > 1:
            raise InputError(f"a batch of sizes {sorted(sizes)}; give it images of one size.")
        for height, width in sizes:
            self.check_memory(height, width, len(images))
        planes = [split(image) for image in images]
        lumas = self._upscale(np.stack([plane.luma for plane in planes])) if planes else ()
        return [merge(*parts) for parts in zip(lumas, planes, images, strict=True)]

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

    def upscale_luma(self, luma: Plane) -> Plane:
        """Upscale one luma plane (H, W) in [0, 1], float32; the result is not clipped.

        Raises:
            InputError, BackendError: as for a whole image.
        """
        self.check_memory(*luma.shape)
        return np.asarray(self._upscale(luma[None])[0])

    def _upscale(self, lumas: Plane) -> Plane:
        """Planes (N, H, W) to (N, sH, sW)."""
        if not self.ensemble:
            return self._run(lumas)
        number, height, width = lumas.shape
        total = np.zeros((number, self.scale * height, self.scale * width), np.float32)
        plane = (1, 2)
        for turns in range(4):
            turned = np.rot90(lumas, turns, plane)
            total += np.rot90(self._run(turned), -turns, plane)
            total += np.rot90(self._run(turned[..., ::-1])[..., ::-1], -turns, plane)
        total /= 8
        return total

    def check_memory(self, height: int, width: int, number: int = 1) -> None:
        """Refuse what would not fit, before the system kills the process for it.

        Raises:
            InputError: a batch of so many low-resolution images of this size is too large.
        """
        pixels = number * height * width
        need = pixels * (BYTES_PER_INPUT_PIXEL + self.scale**2 * BYTES_PER_OUTPUT_PIXEL)
        free = psutil.virtual_memory().available
        if need > free:
            raise InputError(
                f"{width}×{height} pixels at scale {self.scale} need about {need / 2**30:.1f} GiB "
                f"of memory and {free / 2**30:.1f} GiB are free; use a smaller image or scale."
            )

    def _run(self, lumas: Plane) -> Plane:
        if self._closed:
            raise BackendError(CLOSED)
        sr = self.backend.run(np.ascontiguousarray(lumas[:, None]))
        number, height, width = lumas.shape
        if sr.shape != (number, 1, self.scale * height, self.scale * width):
            raise BackendError(f"the backend gave shape {sr.shape} for {width}×{height} pixels.")
        if not np.isfinite(sr).all():
            raise BackendError("the backend gave NaN or infinity; export and verify the model.")
        return np.asarray(sr[:, 0])

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


def _open(model: int | str | os.PathLike[str], allow_ungated: bool, trust: bool) -> Model:
    if isinstance(model, int | np.integer):
        return pretrained(int(model))
    path = Path(model)
    if path.suffix.lower() in ENGINE_SUFFIXES:
        return open_engine(path, trust, allow_ungated)
    return path if path.suffix.lower() == CHECKPOINT_SUFFIX else Bundle(path, allow_ungated)
