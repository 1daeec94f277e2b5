"""TensorRT engines: device memory, streams and CUDA graphs for two pictures in flight."""

import math
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from queue import SimpleQueue
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfdn_deploy.bundle import Bundle
from hfdn_deploy.engines import cuda
from hfdn_deploy.engines.cache import cached_engine, resolve_targets
from hfdn_deploy.engines.engine import Engine, open_engine
from hfdn_deploy.engines.flavour import choose
from hfdn_deploy.engines.loaded import LoadedEngine
from hfdn_deploy.engines.sidecar import check_device
from hfdn_deploy.engines.spec import BuildSpec, presets
from hfdn_deploy.errors import BackendError, InputError

# Captured graphs that each slot keeps: a frame size, and the few sizes of tiles.
GRAPHS = 8
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
        model = open_engine(cached_engine(model, precision, spec))
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
        with self._slot() as slot:
            if out is None and not on_host:
                out = cuda.DeviceArray(self._output(shape), self._engine.output_dtype)
            if on_host:
                staged = slot.host_input.array(shape, self._engine.input_dtype)
                staged[...] = lr
            with self._enqueueing:
                if on_host:
                    source = self._reserve(slot, slot.device_input, shape, staged.nbytes)
                    _copy(source, staged.ctypes.data, staged.nbytes, "HostToDevice", slot.stream)
                else:
                    source = slot.borrow(lr, shape, self._engine.input_dtype)
                if out is None:
                    result = slot.host_output.array(self._output(shape), self._engine.output_dtype)
                    target = self._reserve(slot, slot.device_output, shape, result.nbytes)
                else:
                    target = slot.borrow(out, self._output(shape), self._engine.output_dtype)
                self._compute(slot, shape, source, target, replay=on_host and out is None)
            if out is None:
                _copy(result.ctypes.data, target, result.nbytes, "DeviceToHost", slot.stream)
            cuda.call("cudaStreamSynchronize", slot.stream)
            if out is None:
                return result.astype(np.float32)
            on_device: NDArray[np.float32] = cuda.like(lr, out)
            return on_device

    def _compute(
        self, slot: "_Slot", shape: tuple[int, ...], source: int, target: int, replay: bool
    ) -> None:
        """Enqueue one inference on the slot's stream, after the other slot's last one.

        Args:
            replay: the addresses stay with the slot, so that a shape that comes for the second
                time is captured, and replayed from then on.
        """
        cuda.call("cudaStreamWaitEvent", slot.stream, self._computed, 0)
        if replay and shape in slot.graphs:
            slot.graphs.move_to_end(shape)
            graph = slot.graphs[shape] or self._capture(slot, shape, source, target)
            cuda.call("cudaGraphLaunch", graph, slot.stream)
        else:
            self._prepare(shape)
            self._engine.enqueue(shape, source, target, int(slot.stream))
            if replay:
                slot.remember(shape, None)
        cuda.call("cudaEventRecord", self._computed, slot.stream)

    def _prepare(self, shape: tuple[int, ...]) -> None:
        """Have scratch memory for a shape; graphs hold its address, so they go where it moves."""
        try:
            moved = self._engine.prepare(shape, int(self._slots[0].stream))
        except cuda.CudaError as error:
            raise self._out_of_memory(shape, error) from None
        if moved:
            for slot in self._slots:
                slot.forget_graphs()

    def _capture(self, slot: "_Slot", shape: tuple[int, ...], source: int, target: int) -> Any:
        """One inference as a CUDA graph; its shape has been run before, so all is set up."""
        cuda.call("cudaStreamSynchronize", slot.stream)
        mode = cuda.member("cudaStreamCaptureMode", "cudaStreamCaptureModeThreadLocal")
        cuda.call("cudaStreamBeginCapture", slot.stream, mode)
        try:
            self._engine.enqueue(shape, source, target, int(slot.stream))
        finally:
            captured = cuda.call("cudaStreamEndCapture", slot.stream)
        graph = cuda.call("cudaGraphInstantiate", captured, 0)
        cuda.call("cudaGraphDestroy", captured)
        slot.remember(shape, graph)
        return graph

    def _reserve(
        self, slot: "_Slot", buffer: cuda.Buffer, shape: tuple[int, ...], size: int
    ) -> int:
        """The address of a slot's buffer with room for `size` bytes, for an input of `shape`."""
        before = buffer.pointer
        try:
            pointer = buffer.reserve(size)
        except cuda.CudaError as error:
            raise self._out_of_memory(shape, error) from None
        if pointer != before:
            slot.forget_graphs()
        return pointer

    def _out_of_memory(self, shape: tuple[int, ...], error: cuda.CudaError) -> BackendError:
        """The error to raise in place of one that CUDA gave."""
        if error.status != "cudaErrorMemoryAllocation":
            return error
        need = self._engine.scratch_bytes(shape) + 4 * math.prod(self._output(shape))
        free, total = cuda.call("cudaMemGetInfo")
        side = math.isqrt(int(math.prod(shape[2:]) * min(1.0, 0.8 * free / need)))
        n, _, height, width = shape
        return BackendError(
            f"{n}x{width}x{height} pixels need about {need / 2**20:.0f} MiB of device memory and "
            f"{free / 2**20:.0f} of {total / 2**20:.0f} MiB are free; tiles of {side} pixels "
            "would fit."
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
        with cuda.context(self._context), ExitStack() as stack:
            for slot in self._slots:
                stack.callback(slot.close)
            stack.callback(self._engine.close)
            stack.callback(cuda.call, "cudaEventDestroy", self._computed)


class _Slot:
    """What one picture in flight needs."""

    def __init__(self) -> None:
        self.stream = cuda.call("cudaStreamCreateWithFlags", 1)  # cudaStreamNonBlocking
        self.ready = cuda.call("cudaEventCreate")
        self.host_input, self.host_output = (cuda.Buffer(pinned=True) for _ in range(2))
        self.device_input, self.device_output = (cuda.Buffer() for _ in range(2))
        self.graphs: OrderedDict[tuple[int, ...], Any | None] = OrderedDict()

    def borrow(self, array: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
        """The address of somebody's array, once the stream waits for what they do with it.

        Raises:
            InputError: it has another shape or dtype, or gaps.
        """
        interface = array.__cuda_array_interface__
        given = tuple(interface["shape"]), np.dtype(interface["typestr"])
        gaps = interface.get("strides") not in (None, _strides(shape, dtype.itemsize))
        if given != (shape, dtype) or gaps:
            raise InputError(
                f"the device array is {given[1]} {given[0]}{' with gaps' * gaps}; give a "
                f"contiguous {dtype} array {shape}."
            )
        if stream := interface.get("stream"):
            cuda.call("cudaEventRecord", self.ready, stream)
            cuda.call("cudaStreamWaitEvent", self.stream, self.ready, 0)
        return int(interface["data"][0])

    def remember(self, shape: tuple[int, ...], graph: Any | None) -> None:
        """Keep the graph of a shape, or that the shape came once; the oldest goes."""
        self.graphs[shape] = graph
        while len(self.graphs) > GRAPHS:
            _destroy(self.graphs.popitem(last=False)[1])

    def forget_graphs(self) -> None:
        """Drop all captured graphs: memory that they name is no longer there."""
        while self.graphs:
            _destroy(self.graphs.popitem()[1])

    def close(self) -> None:
        """Free everything, once the stream is done."""
        cuda.call("cudaStreamSynchronize", self.stream)
        self.forget_graphs()
        buffers = (self.host_input, self.host_output, self.device_input, self.device_output)
        for buffer in buffers:
            buffer.close()
        cuda.call("cudaEventDestroy", self.ready)
        cuda.call("cudaStreamDestroy", self.stream)


def _destroy(graph: Any | None) -> None:
    if graph is not None:
        cuda.call("cudaGraphExecDestroy", graph)


def _copy(target: int, source: int, size: int, direction: str, stream: Any) -> None:
    kind = cuda.member("cudaMemcpyKind", f"cudaMemcpy{direction}")
    cuda.call("cudaMemcpyAsync", target, source, size, kind, stream)


def _strides(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Strides in bytes of a contiguous array."""
    return tuple(itemsize * math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
