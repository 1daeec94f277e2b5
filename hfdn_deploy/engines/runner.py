"""Running an engine: device memory, streams and CUDA graphs for two pictures in flight."""

import logging
import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfdn_deploy import cuda
from hfdn_deploy.engines.bindings import IExecutionContext
from hfdn_deploy.engines.engine import Engine
from hfdn_deploy.engines.loaded import LoadedEngine
from hfdn_deploy.engines.sidecar import check_device
from hfdn_deploy.errors import BackendError

logger = logging.getLogger(__name__)

# Shapes that each slot keeps a context and a graph for: a frame size, and the few of tiles.
SHAPES = 8
SLOTS = 2


class EngineRunner:
    """An engine on the current CUDA device.

    Two pictures may be in flight, each with a stream and buffers of its own, so that copies of
    one overlap with the computation of the other. Scratch memory is shared: computations follow
    one another. A shape that comes back is replayed as a CUDA graph.

    Raises:
        EngineError: the engine was built for another GPU, or the library cannot load it.
        BackendError: there is no CUDA device, or a CUDA call failed.
    """

    def __init__(self, engine: Engine) -> None:
        check_device(engine.path, engine.manifest, cuda.Device.current())
        self._context = cuda.current_context()
        self._engine = LoadedEngine(engine)
        self._begun, self._computed = (cuda.call("cudaEventCreate") for _ in range(2))
        self._enqueueing = Lock()
        self._free: SimpleQueue[_Slot] = SimpleQueue()
        self._slots = [_Slot(len(self._engine.inputs)) for _ in range(SLOTS)]
        for slot in self._slots:
            self._free.put(slot)

    def run(self, inputs: Sequence[Any], out: Any = None) -> NDArray[np.float32]:
        """The output for some inputs. Arrays on a device give an array on that device.

        Args:
            inputs: the image (N, 1, H, W) and what else the engine takes, in its sidecar's order,
                all on the host or all with `__cuda_array_interface__`.
            out: array on the device to write to and to return.

        Raises:
            InputError: no profile of the engine takes this shape, or a device array has another
                shape or dtype than it needs, or gaps.
            BackendError: a CUDA call failed, or the device's memory does not suffice.
        """
        on_host = not cuda.is_device_array(inputs[0])
        shape = tuple(inputs[0].shape)
        large, dtype = self._engine.output_shape(shape), np.dtype(self._engine.output.dtype)
        with self._slot() as slot:
            try:
                staged = self._staged(slot, inputs, shape) if on_host else []
                with self._enqueueing:
                    inference = self._inference(slot, shape)
                    if out is None and not on_host:
                        out = cuda.DeviceArray(large, dtype)
                    sources = _sent(slot, staged) if on_host else self._borrowed(inputs, shape)
                    if out is None:
                        result = slot.host_output.array(large, dtype)
                        target = slot.reserve(slot.device_output, result.nbytes)
                    else:
                        target = cuda.borrow(out, large, dtype)
                    self._compute(slot, inference, sources, target, on_host and out is None)
            except cuda.CudaError as error:
                raise self._out_of_memory(shape, error) from None
            if out is None:
                _copy(result.ctypes.data, target, result.nbytes, "DeviceToHost", slot.stream)
            cuda.call("cudaStreamSynchronize", slot.stream)
            if out is None:
                return result.astype(np.float32)
            on_device: NDArray[np.float32] = cuda.like(inputs[0], out)
            return on_device

    def seconds(self) -> float:
        """What the last computation took, without transfers, by CUDA events.

        Raises:
            BackendError: there was none, it is still under way, or a CUDA call failed.
        """
        with cuda.context(self._context):
            return float(cuda.call("cudaEventElapsedTime", self._begun, self._computed)) / 1000

    def _staged(
        self, slot: "_Slot", inputs: Sequence[NDArray[np.float32]], shape: tuple[int, ...]
    ) -> list[NDArray[Any]]:
        """The inputs in the slot's page-locked memory."""
        staged = []
        expected = zip(self._engine.inputs, self._engine.input_shapes(shape), strict=True)
        for buffer, given, (tensor, size) in zip(slot.host_inputs, inputs, expected, strict=True):
            staged.append(buffer.array(size, np.dtype(tensor.dtype)))
            staged[-1][...] = given
        return staged

    def _borrowed(self, inputs: Sequence[Any], shape: tuple[int, ...]) -> list[int]:
        """The addresses of somebody's inputs on the device."""
        expected = zip(self._engine.inputs, self._engine.input_shapes(shape), strict=True)
        return [
            cuda.borrow(given, size, np.dtype(tensor.dtype))
            for given, (tensor, size) in zip(inputs, expected, strict=True)
        ]

    def _inference(self, slot: "_Slot", shape: tuple[int, ...]) -> "_Inference":
        """What a slot keeps for a shape, with scratch memory for it."""
        if found := slot.find(shape):
            return found
        made = _Inference(self._engine.context(shape))
        try:
            moved = self._engine.prepare(made.context)
        except cuda.CudaError:
            self._forget()
            raise
        if moved:
            self._forget()
        slot.keep(shape, made)
        return made

    def _forget(self) -> None:
        """Drop all contexts and graphs: they name scratch memory that is no longer there."""
        for slot in self._slots:
            slot.forget()

    def _compute(
        self,
        slot: "_Slot",
        inference: "_Inference",
        sources: Sequence[int],
        target: int,
        replay: bool,
    ) -> None:
        """Enqueue one inference on the slot's stream, after the other slot's last one.

        Args:
            replay: the addresses stay with the slot, so that a shape that comes for the second
                time is captured, and replayed from then on.
        """
        cuda.call("cudaStreamWaitEvent", slot.stream, self._computed, 0)
        stream = int(slot.stream)
        if replay and inference.runs == 1 and self._engine.capturable(inference.context, stream):
            inference.graph = self._capture(slot, inference, sources, target)
        cuda.call("cudaEventRecord", self._begun, slot.stream)
        if replay and inference.graph is not None:
            cuda.call("cudaGraphLaunch", inference.graph, slot.stream)
        else:
            self._engine.enqueue(inference.context, sources, target, stream)
        inference.runs += replay
        cuda.call("cudaEventRecord", self._computed, slot.stream)

    def _capture(
        self, slot: "_Slot", inference: "_Inference", sources: Sequence[int], target: int
    ) -> Any | None:
        """One inference as a CUDA graph; None, and a warning, if the engine cannot be captured."""
        cuda.call("cudaStreamSynchronize", slot.stream)
        mode = cuda.member("cudaStreamCaptureMode", "cudaStreamCaptureModeThreadLocal")
        cuda.call("cudaStreamBeginCapture", slot.stream, mode)
        try:
            try:
                self._engine.enqueue(inference.context, sources, target, int(slot.stream))
            finally:
                captured = cuda.call("cudaStreamEndCapture", slot.stream)
            try:
                return cuda.call("cudaGraphInstantiate", captured, 0)
            finally:
                cuda.call("cudaGraphDestroy", captured)
        except BackendError as error:
            logger.warning("no CUDA graph, every run is enqueued anew: %s", error)
            return None

    def _out_of_memory(self, shape: tuple[int, ...], error: cuda.CudaError) -> BackendError:
        """The error to raise in place of one that CUDA gave."""
        if error.status != "cudaErrorMemoryAllocation":
            return error
        shapes = [*self._engine.input_shapes(shape), self._engine.output_shape(shape)]
        scratch = self._engine.scratch_bytes(self._engine.context(shape))
        itemsize = np.dtype(self._engine.output.dtype).itemsize
        need = scratch + sum(math.prod(each) for each in shapes) * itemsize
        free, total = cuda.call("cudaMemGetInfo")
        side = math.isqrt(int(math.prod(shape[2:]) * min(1.0, 0.8 * free / need)))
        n, _, height, width = shape
        advice = f"tiles of {side} pixels with their halo would fit" if side else "free some of it"
        return BackendError(
            f"{n}x{width}x{height} pixels need about {need / 2**20:.0f} MiB of device memory and "
            f"{free / 2**20:.0f} of {total / 2**20:.0f} MiB are free; {advice}."
        )

    @contextmanager
    def _slot(self) -> Iterator["_Slot"]:
        """A free slot, with the CUDA context of this backend current in the calling thread."""
        slot = self._free.get()
        try:
            with cuda.context(self._context):
                yield slot
        finally:
            self._free.put(slot)

    def close(self) -> None:
        """Free what the device holds for it; `run` must not be called afterwards."""
        with cuda.context(self._context):
            for slot in self._slots:
                slot.close()
            self._engine.close()
            for event in (self._begun, self._computed):
                cuda.call("cudaEventDestroy", event)


@dataclass
class _Inference:
    """Inputs of one shape in one slot: a context that nothing else uses, and its graph."""

    context: IExecutionContext
    graph: Any | None = None
    runs: int = 0
    """Between the slot's own buffers."""

    def close(self) -> None:
        if self.graph is not None:
            cuda.call("cudaGraphExecDestroy", self.graph)


class _Slot:
    """What one picture in flight needs."""

    def __init__(self, inputs: int) -> None:
        """With buffers for so many inputs and one output."""
        self.stream = cuda.call("cudaStreamCreateWithFlags", 1)  # cudaStreamNonBlocking
        *self.host_inputs, self.host_output = (cuda.Buffer(pinned=True) for _ in range(inputs + 1))
        *self.device_inputs, self.device_output = (cuda.Buffer() for _ in range(inputs + 1))
        self._inferences: OrderedDict[tuple[int, ...], _Inference] = OrderedDict()

    def find(self, shape: tuple[int, ...]) -> _Inference | None:
        """What is kept for a shape, which becomes the newest."""
        if shape in self._inferences:
            self._inferences.move_to_end(shape)
        return self._inferences.get(shape)

    def keep(self, shape: tuple[int, ...], inference: _Inference) -> None:
        """Keep an inference; where there are too many, the oldest goes."""
        self._inferences[shape] = inference
        if len(self._inferences) > SHAPES:
            cuda.call("cudaStreamSynchronize", self.stream)
            self._inferences.popitem(last=False)[1].close()

    def reserve(self, buffer: cuda.Buffer, size: int) -> int:
        """The address of one of the slot's buffers; graphs go if it is a new one."""
        before = buffer.pointer
        try:
            return buffer.reserve(size)
        finally:
            if buffer.pointer != before:
                for inference in self._inferences.values():
                    inference.close()
                    inference.graph, inference.runs = None, 0

    def forget(self) -> None:
        """Drop all contexts and graphs, once the stream is done with them."""
        cuda.call("cudaStreamSynchronize", self.stream)
        while self._inferences:
            self._inferences.popitem()[1].close()

    def close(self) -> None:
        """Free everything."""
        self.forget()
        for buffer in (
            *self.host_inputs, self.host_output, *self.device_inputs, self.device_output
        ):  # fmt: skip
            buffer.close()
        cuda.call("cudaStreamDestroy", self.stream)


def _sent(slot: _Slot, staged: Sequence[NDArray[Any]]) -> list[int]:
    """The addresses on the device to which the slot's stream copies inputs."""
    sources = []
    for buffer, array in zip(slot.device_inputs, staged, strict=True):
        sources.append(slot.reserve(buffer, array.nbytes))
        _copy(sources[-1], array.ctypes.data, array.nbytes, "HostToDevice", slot.stream)
    return sources


def _copy(target: int, source: int, size: int, direction: str, stream: Any) -> None:
    kind = cuda.member("cudaMemcpyKind", f"cudaMemcpy{direction}")
    cuda.call("cudaMemcpyAsync", target, source, size, kind, stream)
