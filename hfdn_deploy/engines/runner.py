"""Running an engine: streams, device memory and CUDA graphs for images in flight."""

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from queue import LifoQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfdn_deploy import cuda
from hfdn_deploy.engines.engine import Engine
from hfdn_deploy.engines.loaded import LoadedEngine
from hfdn_deploy.engines.sidecar import check_device
from hfdn_deploy.engines.slot import Inference, Slot, create
from hfdn_deploy.errors import BackendError

logger = logging.getLogger(__name__)

SLOTS = 3
"""Images in flight: one is copied to the device, one computed and one copied back."""


class EngineRunner:
    """An engine on the current CUDA device.

    Up to `SLOTS` images are in flight, each with its own stream and buffers, so that copies
    overlap with computations. Computations run one after another, since they share scratch memory.
    A repeated shape is replayed as a CUDA graph. Work of all engines in a CUDA context is enqueued
    under the lock of that context.

    Raises:
        EngineError: the engine was built for another GPU, or TensorRT cannot load it.
        BackendError: there is no CUDA device, or a CUDA call failed.
    """

    def __init__(self, engine: Engine) -> None:
        check_device(engine.path, engine.manifest, cuda.Device.current())
        self.context = cuda.current_context()
        self._lock = cuda.lock_of(self.context)
        # Frees everything in reverse order, even if a step fails.
        with ExitStack() as made, self._lock:
            self._engine = LoadedEngine(engine)
            made.callback(self._engine.close)
            self._scratch = cuda.Buffer()
            made.callback(self._scratch.close)
            self._results = cuda.Pool(self.context)
            made.callback(self._results.close)
            self._on_host = cuda.Pool(self.context, pinned=True)
            made.callback(self._on_host.close)
            self._begun, self._computed = (create(made, "Event") for _ in range(2))
            self._slots = [Slot(len(self._engine.inputs), made) for _ in range(SLOTS)]
            self._made = made.pop_all()
        # Last in, first out, so that a single caller always gets the same slot and its graphs.
        self._free: LifoQueue[Slot] = LifoQueue()
        for slot in self._slots:
            self._free.put(slot)

    def run(self, inputs: Sequence[Any], out: Any = None) -> NDArray[Any]:
        """Run an inference and return its output, on the device if the inputs are there.

        Args:
            inputs: the image and the engine's other inputs in the order of its sidecar, all on the
                host or all on a device, with `__cuda_array_interface__` or `__dlpack__`.
            out: array on the device to write to and to return.

        Raises:
            InputError: no profile of the engine takes this shape, or a device array has the wrong
                shape or dtype or is not contiguous.
            BackendError: a CUDA call failed, or the device has too little memory.
            ContextLostError: CUDA failed so that the process must be restarted.
        """
        shape = tuple(inputs[0].shape)
        with self._slot() as slot:
            try:
                on_device = cuda.is_device_array(inputs[0])
                run = self._run_on_device if on_device else self._run_from_host
                result: NDArray[Any] = run(slot, shape, inputs, out)
            except cuda.CudaError as error:
                raise self._out_of_memory(shape, error) from None
        return result

    def _run_from_host(
        self, slot: Slot, shape: tuple[int, ...], inputs: Sequence[NDArray[Any]], out: Any
    ) -> Any:
        *kinds, output = self._kinds(shape)
        with self._enqueuing(slot):
            self._inference(slot, shape)  # refuses a bad shape before memory is allocated
            if out is None:
                result = cuda.host_array(*output, self._on_host)
            staged = slot.reserve(kinds, 0 if out is not None else result.nbytes)
        for array, given in zip(staged, inputs, strict=True):
            array[...] = given
        with self._enqueuing(slot):
            inference = self._inference(slot, shape)
            target = slot.output.pointer if out is None else cuda.borrow(out, *output)
            for place, array in zip(slot.sources, staged, strict=True):
                slot.copy(place, array.ctypes.data, array.nbytes, "HostToDevice")
            self._compute(slot, inference, slot.sources, target, replay=out is None)
            if out is None:
                slot.copy(result.ctypes.data, target, result.nbytes, "DeviceToHost")
        cuda.call("cudaStreamSynchronize", slot.stream)
        if out is not None:
            return out
        return result if self._on_host.lent <= cuda.HELD else result.copy()

    def _run_on_device(
        self, slot: Slot, shape: tuple[int, ...], inputs: Sequence[Any], out: Any
    ) -> Any:
        *kinds, output = self._kinds(shape)
        inputs = [cuda.as_device_array(given) for given in inputs]
        with self._enqueuing(slot):
            inference = self._inference(slot, shape)
            sources = [cuda.borrow(given, *kind) for given, kind in zip(inputs, kinds, strict=True)]
            result = out
            if out is None:
                result = cuda.DeviceArray(*output, self._results)
                slot.wait_for_legacy()
            target = cuda.borrow(result, *output)
            self._compute(slot, inference, sources, target, replay=False)
        cuda.call("cudaStreamSynchronize", slot.stream)
        return out if out is not None else cuda.like(inputs[0], result)

    def _kinds(self, shape: tuple[int, ...]) -> list[tuple[tuple[int, ...], np.dtype[Any]]]:
        """Return shape and dtype of all inputs and of the output for an image of this shape."""
        tensors = (*self._engine.inputs, self._engine.output)
        shapes = (*self._engine.input_shapes(shape), self._engine.output_shape(shape))
        return [(size, np.dtype(t.dtype)) for size, t in zip(shapes, tensors, strict=True)]

    def seconds(self) -> float:
        """Return the seconds of the last computation by CUDA events, without transfers.

        Raises:
            BackendError: no computation was made or it is not complete, or a CUDA call failed.
        """
        with cuda.context(self.context):
            return float(cuda.call("cudaEventElapsedTime", self._begun, self._computed)) / 1000

    def bytes_per_pixel(self) -> int:
        """Return the approximate device memory per pixel, with `SLOTS` images in flight."""
        return self._engine.bytes_per_pixel(SLOTS)

    def _inference(self, slot: Slot, shape: tuple[int, ...]) -> Inference:
        """Return a slot's inference for a shape, with scratch memory set."""
        if found := slot.find(shape):
            return found
        made = Inference(self._engine.context(shape, slot.stream))
        need = self._engine.scratch_bytes(made.context)
        if need > self._scratch.size:
            self._forget()
        pointer = self._scratch.reserve(need)
        made.context.set_device_memory(pointer, self._scratch.size)
        slot.keep(shape, made)
        return made

    def _forget(self) -> None:
        """Drop all contexts and graphs, since they refer to the old scratch memory."""
        with ExitStack() as each:
            for slot in self._slots:
                each.callback(slot.forget)

    def _compute(
        self, slot: Slot, inference: Inference, sources: Sequence[int], target: int, *, replay: bool
    ) -> None:
        """Enqueue one inference on the slot's stream, after the last computation of any slot.

        Args:
            replay: the addresses are the slot's own, so that the second run of a shape can be
                captured and later ones replayed.
        """
        stream = int(slot.stream)
        again = replay and inference.runs == 1 and inference.graph is None
        if again and self._engine.capturable(inference.context, stream):
            self._capture(slot, inference, sources, target)
        cuda.call("cudaStreamWaitEvent", slot.stream, self._computed, 0)
        cuda.call("cudaEventRecord", self._begun, slot.stream)
        if replay and inference.graph is not None:
            cuda.call("cudaGraphLaunch", inference.graph, slot.stream)
        else:
            self._engine.enqueue(inference.context, sources, target, stream)
        inference.runs += replay
        cuda.call("cudaEventRecord", self._computed, slot.stream)

    def _capture(
        self, slot: Slot, inference: Inference, sources: Sequence[int], target: int
    ) -> None:
        """Capture one inference as a CUDA graph; log a warning if that fails."""
        # In other modes, memory that the garbage collector frees meanwhile would end the capture.
        mode = cuda.member("cudaStreamCaptureMode", "cudaStreamCaptureModeRelaxed")
        try:
            with ExitStack() as made:
                cuda.call("cudaStreamBeginCapture", slot.stream, mode)
                try:
                    self._engine.enqueue(inference.context, sources, target, int(slot.stream))
                finally:
                    captured = cuda.call("cudaStreamEndCapture", slot.stream)
                    made.callback(cuda.call, "cudaGraphDestroy", captured)
                inference.graph = cuda.call("cudaGraphInstantiate", captured, 0)
        except cuda.ContextLostError:
            raise
        except BackendError as error:
            # As text, since a kept log record would keep the error's frames and the context.
            logger.warning(
                "a shape is enqueued each time, since it cannot be a CUDA graph: %s", str(error)
            )

    def _out_of_memory(self, shape: tuple[int, ...], error: cuda.CudaError) -> BackendError:
        """Return a CUDA error, or in place of one for lack of memory, an error with advice."""
        if error.status != "cudaErrorMemoryAllocation":
            return error
        free, total = cuda.call("cudaMemGetInfo")
        *_, height, width = self._engine.input_shapes(shape)[0]
        need = self._engine.bytes_per_pixel() * math.prod(shape)
        if need < free:
            return error
        side = math.isqrt(int(height * width * min(1.0, 0.8 * free / need)))
        advice = f"tiles of {side} pixels with their halo would fit" if side else "free some of it"
        return BackendError(
            f"{shape[0]}x{width}x{height} pixels need about {need / 2**20:.0f} MiB of device "
            f"memory, but only {free / 2**20:.0f} of {total / 2**20:.0f} MiB are free; {advice}."
        )

    @contextmanager
    def _slot(self) -> Iterator[Slot]:
        """Yield a free slot, with this runner's CUDA context current in the calling thread.

        On an error, the slot's work is waited for before the slot is given back.
        """
        slot = self._free.get()
        try:
            with cuda.context(self.context):
                try:
                    yield slot
                except BaseException:
                    slot.drain()
                    raise
        finally:
            self._free.put(slot)

    @contextmanager
    def _enqueuing(self, slot: Slot) -> Iterator[None]:
        """Hold the lock of the CUDA context.

        On an error, wait for the slot's work before another slot uses the scratch memory.
        """
        with self._lock:
            try:
                yield
            except BaseException:
                slot.drain()
                raise

    def close(self) -> None:
        """Free all device memory; `run` must not be called afterwards.

        If CUDA is lost to this process, nothing can be freed, and a warning is logged.
        """
        try:
            with self._lock, ExitStack() as again:
                # Does nothing, unless the context could not be made current.
                again.callback(self._made.close)
                with cuda.context(self.context):
                    self._made.close()
        except cuda.ContextLostError as error:
            logger.warning("an engine was not freed: %s", str(error))
