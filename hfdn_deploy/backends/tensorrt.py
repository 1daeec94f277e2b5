"""TensorRT engines: device memory, streams and CUDA graphs for two pictures in flight."""

import logging
import math
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfdn_deploy.bundle import Bundle
from hfdn_deploy.engines import cuda
from hfdn_deploy.engines.bindings import IExecutionContext
from hfdn_deploy.engines.cache import cached_engine, resolve_targets
from hfdn_deploy.engines.engine import Engine, open_engine
from hfdn_deploy.engines.flavour import choose
from hfdn_deploy.engines.loaded import LoadedEngine
from hfdn_deploy.engines.sidecar import check_device
from hfdn_deploy.engines.spec import BuildSpec, presets
from hfdn_deploy.errors import BackendError

logger = logging.getLogger(__name__)

# Shapes that each slot keeps a context and a graph for: a frame size, and the few of tiles.
SHAPES = 8
SLOTS = 2


def why_unavailable(name: str) -> str | None:
    """Why no engine can run here; None if one can."""
    try:
        choose("auto")
        cuda.Device.current()
    except BackendError as error:
        return str(error).rstrip(".")
    return None


def open_model(model: Bundle | Engine, precision: str, name: str) -> "TensorRTBackend":
    """Open an engine; for a bundle, the one in the cache for this GPU, built if need be."""
    if isinstance(model, Bundle):
        flavour = choose("auto").name
        profiles = (presets(model.manifest.scale)["photo"],)
        spec = BuildSpec(flavour, profiles, resolve_targets(flavour, ()))
        model = open_engine(cached_engine(model, precision, spec), False, model.allow_ungated)
    return TensorRTBackend(model)


class TensorRTBackend:
    """An engine on the current CUDA device.

    Two pictures may be in flight, each with a stream and buffers of its own, so that copies of
    one overlap with the computation of the other. Scratch memory is shared: computations follow
    one another. A shape that comes back is replayed as a CUDA graph.

    Raises:
        EngineError: the engine was built for another GPU, or the library cannot load it.
        BackendError: there is no CUDA device, or a CUDA call failed.
    """

    name = "tensorrt"
    concurrency = SLOTS

    def __init__(self, engine: Engine) -> None:
        check_device(engine.path, engine.manifest, cuda.Device.current())
        self.scale = engine.manifest.scale
        self.precision = engine.manifest.precision
        self._context = cuda.current_context()
        self._engine = LoadedEngine(engine)
        self._computed = cuda.call("cudaEventCreate")
        self._enqueueing = Lock()
        self._free: SimpleQueue[_Slot] = SimpleQueue()
        self._slots = [_Slot() for _ in range(SLOTS)]
        for slot in self._slots:
            self._free.put(slot)

    def run(self, lr: NDArray[np.float32], out: Any = None) -> NDArray[np.float32]:
        """See `Backend.run`. An array on a device gives an array on that device.

        Args:
            lr: luma (N, 1, H, W), on the host or with `__cuda_array_interface__`.
            out: array on the device (N, 1, sH, sW) to write to and to return.

        Raises:
            InputError: no profile of the engine takes this shape, or a device array has another
                shape or dtype than it needs, or gaps.
            BackendError: a CUDA call failed, or the device's memory does not suffice.
        """
        on_host = not cuda.is_device_array(lr)
        shape = tuple(lr.shape)
        large = self._output(shape)
        with self._slot() as slot:
            try:
                if on_host:
                    staged = slot.host_input.array(shape, self._engine.input_dtype)
                    staged[...] = lr
                with self._enqueueing:
                    inference = self._inference(slot, shape)
                    if out is None and not on_host:
                        out = cuda.DeviceArray(large, self._engine.output_dtype)
                    if on_host:
                        source = slot.reserve(slot.device_input, staged.nbytes)
                        _copy(
                            source, staged.ctypes.data, staged.nbytes, "HostToDevice", slot.stream
                        )
                    else:
                        source = cuda.borrow(lr, shape, self._engine.input_dtype)
                    if out is None:
                        result = slot.host_output.array(large, self._engine.output_dtype)
                        target = slot.reserve(slot.device_output, result.nbytes)
                    else:
                        target = cuda.borrow(out, large, self._engine.output_dtype)
                    self._compute(slot, inference, source, target, on_host and out is None)
            except cuda.CudaError as error:
                raise self._out_of_memory(shape, error) from None
            if out is None:
                _copy(result.ctypes.data, target, result.nbytes, "DeviceToHost", slot.stream)
            cuda.call("cudaStreamSynchronize", slot.stream)
            if out is None:
                return result.astype(np.float32)
            on_device: NDArray[np.float32] = cuda.like(lr, out)
            return on_device

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
        self, slot: "_Slot", inference: "_Inference", source: int, target: int, replay: bool
    ) -> None:
        """Enqueue one inference on the slot's stream, after the other slot's last one.

        Args:
            replay: the addresses stay with the slot, so that a shape that comes for the second
                time is captured, and replayed from then on.
        """
        cuda.call("cudaStreamWaitEvent", slot.stream, self._computed, 0)
        stream = int(slot.stream)
        if replay and inference.runs == 1 and self._engine.capturable(inference.context, stream):
            inference.graph = self._capture(slot, inference, source, target)
        if replay and inference.graph is not None:
            cuda.call("cudaGraphLaunch", inference.graph, slot.stream)
        else:
            self._engine.enqueue(inference.context, source, target, stream)
        inference.runs += replay
        cuda.call("cudaEventRecord", self._computed, slot.stream)

    def _capture(
        self, slot: "_Slot", inference: "_Inference", source: int, target: int
    ) -> Any | None:
        """One inference as a CUDA graph; None, and a warning, if the engine cannot be captured."""
        cuda.call("cudaStreamSynchronize", slot.stream)
        mode = cuda.member("cudaStreamCaptureMode", "cudaStreamCaptureModeThreadLocal")
        cuda.call("cudaStreamBeginCapture", slot.stream, mode)
        try:
            try:
                self._engine.enqueue(inference.context, source, target, int(slot.stream))
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
        pixels = math.prod(shape) + math.prod(self._output(shape))
        scratch = self._engine.scratch_bytes(self._engine.context(shape))
        need = scratch + pixels * self._engine.output_dtype.itemsize
        free, total = cuda.call("cudaMemGetInfo")
        side = math.isqrt(int(math.prod(shape[2:]) * min(1.0, 0.8 * free / need)))
        n, _, height, width = shape
        advice = f"tiles of {side} pixels would fit" if side else "free some of it"
        return BackendError(
            f"{n}x{width}x{height} pixels need about {need / 2**20:.0f} MiB of device memory and "
            f"{free / 2**20:.0f} of {total / 2**20:.0f} MiB are free; {advice}."
        )

    def _output(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        n, channels, height, width = shape
        return n, channels, self.scale * height, self.scale * width

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
        """See `Backend.close`."""
        with cuda.context(self._context):
            for slot in self._slots:
                slot.close()
            self._engine.close()
            cuda.call("cudaEventDestroy", self._computed)


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

    def __init__(self) -> None:
        self.stream = cuda.call("cudaStreamCreateWithFlags", 1)  # cudaStreamNonBlocking
        self.host_input, self.host_output = (cuda.Buffer(pinned=True) for _ in range(2))
        self.device_input, self.device_output = (cuda.Buffer() for _ in range(2))
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
        buffers = (self.host_input, self.host_output, self.device_input, self.device_output)
        for buffer in buffers:
            buffer.close()
        cuda.call("cudaStreamDestroy", self.stream)


def _copy(target: int, source: int, size: int, direction: str, stream: Any) -> None:
    kind = cuda.member("cudaMemcpyKind", f"cudaMemcpy{direction}")
    cuda.call("cudaMemcpyAsync", target, source, size, kind, stream)
