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
"""Images in flight: one is copied to the device, one is computed, one is copied back."""


class EngineRunner:
    """An engine on the current CUDA device.

    `SLOTS` images may be in flight, each with a stream and buffers of its own, so that copies of
    some overlap with the computation of another. Scratch memory is shared: computations follow one
    another. A shape that comes back is replayed as a CUDA graph. Work is enqueued under the lock
    of its CUDA context, whichever engine it is for.

    Raises:
        EngineError: the engine was built for another GPU, or the library cannot load it.
        BackendError: there is no CUDA device, or a CUDA call failed.
    """

    def __init__(self, engine: Engine) -> None:
        check_device(engine.path, engine.manifest, cuda.Device.current())
        self.context = cuda.current_context()
        self._lock = cuda.lock_of(self.context)
        # It frees all that was made, in the opposite order, whatever of it fails.
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
        # The last in is the first out, so that a lone caller always meets the same graphs.
        self._free: LifoQueue[Slot] = LifoQueue()
        for slot in self._slots:
            self._free.put(slot)

    def run(self, inputs: Sequence[Any], out: Any = None) -> NDArray[Any]:
        """The output for some inputs. Arrays on a device give an array on that device.

        Args:
            inputs: the image and what else the engine takes, in its sidecar's order, all on the
                host or all on a device, with `__cuda_array_interface__` or `__dlpack__`.
            out: array on the device to write to and to return.

        Raises:
            InputError: no profile of the engine takes this shape, or a device array has another
                shape or dtype than it needs, or gaps.
            BackendError: a CUDA call failed, or the device's memory does not suffice.
            ContextLostError: the process must be restarted.
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
            self._inference(slot, shape)  # it refuses the shape before memory is taken for it
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
        """Shape and dtype of all inputs and of the output for an image of this shape."""
        tensors = (*self._engine.inputs, self._engine.output)
        shapes = (*self._engine.input_shapes(shape), self._engine.output_shape(shape))
        return [(size, np.dtype(t.dtype)) for size, t in zip(shapes, tensors, strict=True)]

    def seconds(self) -> float:
        """What the last computation took, without transfers, by CUDA events.

        Raises:
            BackendError: there was none, it is still under way, or a CUDA call failed.
        """
        with cuda.context(self.context):
            return float(cuda.call("cudaEventElapsedTime", self._begun, self._computed)) / 1000

    def bytes_per_pixel(self) -> int:
        """Device memory for each pixel of an image, about, with as many in flight as may be."""
        return self._engine.bytes_per_pixel(SLOTS)

    def _inference(self, slot: Slot, shape: tuple[int, ...]) -> Inference:
        """What a slot keeps for a shape, with scratch memory for it."""
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
        """Drop all contexts and graphs, which name scratch memory that is about to go."""
        with ExitStack() as each:
            for slot in self._slots:
                each.callback(slot.forget)

    def _compute(
        self, slot: Slot, inference: Inference, sources: Sequence[int], target: int, *, replay: bool
    ) -> None:
        """Enqueue one inference on the slot's stream, after the last of any slot.

        Args:
            replay: the addresses stay with the slot, so that a shape that comes for the second
                time is captured, and replayed from then on.
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
        """Make one inference a CUDA graph; else warn that the engine cannot be captured."""
        # Else what the collector frees meanwhile, in this thread, would end the capture.
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
            # As text: a record that is kept would keep the error's frames, and the context.
            logger.warning(
                "a shape is enqueued anew each time, without a CUDA graph: %s", str(error)
            )

    def _out_of_memory(self, shape: tuple[int, ...], error: cuda.CudaError) -> BackendError:
        """The error to raise in place of one that CUDA gave."""
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
            f"memory and {free / 2**20:.0f} of {total / 2**20:.0f} MiB are free; {advice}."
        )

    @contextmanager
    def _slot(self) -> Iterator[Slot]:
        """A free slot, with the CUDA context of this runner current in the calling thread.

        It goes back without work under way, whatever happens.
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

        What fails half-way is over before another slot uses the scratch memory.
        """
        with self._lock:
            try:
                yield
            except BaseException:
                slot.drain()
                raise

    def close(self) -> None:
        """Free what the device holds for it; `run` must not be called afterwards.

        If CUDA is lost to this process, nothing can be freed, which is a warning.
        """
        try:
            with self._lock, ExitStack() as again:
                # A no-op, unless the context could not be made current.
                again.callback(self._made.close)
                with cuda.context(self.context):
                    self._made.close()
        except cuda.ContextLostError as error:
            logger.warning("an engine was not freed: %s", str(error))
