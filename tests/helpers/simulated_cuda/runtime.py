"""The simulated functions of `cuda.bindings.runtime`, under the same names."""
# ruff: noqa: N802, N803

import ctypes
import time
from collections.abc import Callable
from typing import Any

from cuda.bindings import runtime

from tests.helpers.simulated_cuda.gpu import PRIMARY, CudaFailure, SimulatedGpu, Status
from tests.helpers.simulated_cuda.memory import Block, Span
from tests.helpers.simulated_cuda.work import Capture, Event, GraphExec, Stream, Work

Kind = runtime.cudaMemcpyKind
_NO_CONTEXT = (
    "cudaGetDeviceCount",
    "cudaGetDevice",
    "cudaGetDeviceProperties",
    "cudaDriverGetVersion",
    "cudaRuntimeGetVersion",
)
_NON_BLOCKING = 1


class Runtime:
    """See `replace.Double`."""

    module = runtime
    prefix = "cuda"
    success = Status.cudaSuccess

    def __init__(self, gpu: SimulatedGpu) -> None:
        self._gpu = gpu

    def status(self, failure: Any) -> Any:
        """See `Double.status`."""
        return failure

    def enter(self, name: str) -> None:
        """Make the device's primary context current if there is no current context."""
        self._gpu.started = True
        if name not in _NO_CONTEXT:
            self._gpu.context = self._gpu.context or PRIMARY

    def discard(self, result: Any) -> None:
        """See `Double.discard`; only the end of a capture creates an object."""
        self.cudaGraphDestroy(result)

    # The device.

    def cudaGetDeviceCount(self) -> int:
        return 1

    def cudaGetDevice(self) -> int:
        return 0

    def cudaGetDeviceProperties(self, device: int) -> Any:
        properties = runtime.cudaDeviceProp()
        properties.name = b"Simulated GPU".ljust(256, b"\0")
        properties.major, properties.minor = self._gpu.target
        return properties

    def cudaDriverGetVersion(self) -> int:
        return 13000

    def cudaRuntimeGetVersion(self) -> int:
        return 13000

    def cudaDeviceSynchronize(self) -> None:
        self._gpu.invalidate(self._gpu.captures(), Status.cudaErrorStreamCaptureUnsupported)
        for stream in self._gpu.all_streams():
            self._gpu.schedule.finish(stream.last)

    # Memory.

    def cudaMalloc(self, size: int) -> int:
        return self._allocate(size, pinned=False)

    def cudaMallocHost(self, size: int) -> int:
        return self._allocate(size, pinned=True)

    def _allocate(self, size: int, *, pinned: bool) -> int:
        self._gpu.check_unsafe()
        if size <= 0:
            self._gpu.violate(f"an allocation of {size} bytes is requested")
        pointer = self._gpu.memory.allocate(size, self._gpu.context, pinned=pinned)
        if pointer is None:
            raise CudaFailure(Status.cudaErrorMemoryAllocation)
        return pointer

    def cudaFree(self, devPtr: Any) -> None:
        self._free(int(devPtr), pinned=False)

    def cudaFreeHost(self, ptr: Any) -> None:
        self._free(int(ptr), pinned=True)

    def _free(self, pointer: int, *, pinned: bool) -> None:
        self._gpu.check_unsafe()
        if not pointer:
            return
        block = self._gpu.memory.free(pointer, pinned=pinned)
        if block is None or block.context != self._gpu.context:
            self._gpu.violate(f"{pointer:#x} is freed, but is not such memory of this context")
            raise CudaFailure(Status.cudaErrorInvalidValue)
        if work := self._gpu.schedule.touches(Span(pointer, block.size)):
            self._gpu.violate(f"memory that {work.name} is about to use is freed")

    def cudaMemGetInfo(self) -> tuple[int, int]:
        memory = self._gpu.memory
        return memory.total - memory.used, memory.total

    def cudaMemcpyAsync(self, dst: Any, src: Any, count: int, kind: Any, stream: Any) -> None:
        to, source = Span(int(dst), count), Span(int(src), count)
        for span, host in zip((source, to), _on_host(kind), strict=True):
            block = self._gpu.memory.find(span)
            if block is None or block.pinned != host or not self._is_mine(block):
                self._gpu.violate(f"{kind.name} of {count} bytes at {span.pointer:#x}, not there")
                raise CudaFailure(Status.cudaErrorInvalidValue)

        def copy() -> None:
            self._gpu.memory.view(to)[:] = self._gpu.memory.view(source)

        work = Work(kind.name, copy, reads=(source,), writes=(to,))
        self._gpu.enqueue(self._gpu.stream(stream), work)

    def _is_mine(self, block: Block) -> bool:
        return block.pinned or block.context == self._gpu.context

    def cudaMemcpy(self, dst: Any, src: Any, count: int, kind: Any) -> None:
        self._gpu.check_unsafe()
        legacy = self._gpu.stream(0)
        from_host, to_host = _on_host(kind)
        if from_host:
            data = ctypes.string_at(int(src), count)
            span = Span(int(dst), count)

            def write() -> None:
                self._gpu.memory.view(span).data[:] = data

            work = Work(kind.name, write, writes=(span,))
        else:
            assert to_host, kind
            span = Span(int(src), count)

            def read() -> None:
                ctypes.memmove(int(dst), self._gpu.memory.view(span).tobytes(), count)

            work = Work(kind.name, read, reads=(span,))
        self._gpu.enqueue(legacy, work)
        self._gpu.schedule.finish(work)

    # Streams.

    def cudaStreamCreateWithFlags(self, flags: int) -> Any:
        self._gpu.check_unsafe()
        stream = Stream(self._gpu.context, blocking=flags != _NON_BLOCKING)
        return runtime.cudaStream_t(self._gpu.new(self._gpu.streams, stream))

    def cudaStreamDestroy(self, stream: Any) -> None:
        self._gpu.stream(stream)
        if self._gpu.streams.pop(int(stream)).capture:
            self._gpu.violate("a stream is destroyed while it captures")

    def cudaStreamSynchronize(self, stream: Any) -> None:
        self._waited(self._gpu.stream(stream), lambda last: self._gpu.schedule.finish(last))

    def cudaStreamQuery(self, stream: Any) -> None:
        self._waited(self._gpu.stream(stream), _check_done)

    def _waited(self, stream: Stream, wait: Callable[[Work | None], None]) -> None:
        if stream.capture:
            self._gpu.invalidate([stream.capture], Status.cudaErrorStreamCaptureUnsupported)
        self._gpu.check_unsafe()
        wait(stream.last)

    def cudaStreamWaitEvent(self, stream: Any, event: Any, flags: int) -> None:
        waiting, waited = self._gpu.stream(stream), self._gpu.event(event)
        if waiting.capture and not waited.captured:
            self._gpu.invalidate([waiting.capture], Status.cudaErrorStreamCaptureIsolation)
        if waited.captured and not waiting.capture:
            raise CudaFailure(Status.cudaErrorCapturedEvent)
        self._gpu.enqueue(waiting, Work("cudaStreamWaitEvent"), waited.work)

    # Events.

    def cudaEventCreate(self) -> Any:
        return runtime.cudaEvent_t(self._gpu.new(self._gpu.events, Event(self._gpu.context)))

    def cudaEventDestroy(self, event: Any) -> None:
        self._gpu.event(event)
        del self._gpu.events[int(event)]

    def cudaEventRecord(self, event: Any, stream: Any) -> None:
        recorded, place = self._gpu.event(event), self._gpu.stream(stream)

        def record() -> None:
            recorded.seconds = time.perf_counter()

        work = Work("cudaEventRecord", record)
        self._gpu.enqueue(place, work)
        recorded.work, recorded.captured = work, place.capture is not None

    def cudaEventSynchronize(self, event: Any) -> None:
        self._gpu.check_unsafe()
        self._gpu.schedule.finish(self._gpu.event(event).work)

    def cudaEventElapsedTime(self, start: Any, end: Any) -> float:
        first, second = self._gpu.event(start), self._gpu.event(end)
        if first.work is None or second.work is None:
            raise CudaFailure(Status.cudaErrorInvalidResourceHandle)
        for each in (first.work, second.work):
            _check_done(each)
        return (second.seconds - first.seconds) * 1000

    # Graphs.

    def cudaStreamBeginCapture(self, stream: Any, mode: Any) -> None:
        begun = self._gpu.stream(stream)
        if begun.capture or int(stream) in (0, 1):
            raise CudaFailure(Status.cudaErrorStreamCaptureUnsupported)
        begun.capture = Capture(mode)

    def cudaStreamEndCapture(self, stream: Any) -> Any:
        ended = self._gpu.stream(stream)
        capture = ended.capture
        if capture is None:
            raise CudaFailure(Status.cudaErrorIllegalState)
        if capture.is_of_another_thread():
            raise CudaFailure(Status.cudaErrorStreamCaptureWrongThread)
        ended.capture = None
        if capture.invalid:
            raise CudaFailure(Status.cudaErrorStreamCaptureInvalidated)
        return runtime.cudaGraph_t(self._gpu.new(self._gpu.graphs, capture.works))

    def cudaGraphInstantiate(self, graph: Any, flags: int) -> Any:
        works = self._gpu.graphs.get(int(graph))
        if works is None:
            raise CudaFailure(Status.cudaErrorInvalidValue)
        executable = GraphExec(tuple(works))
        return runtime.cudaGraphExec_t(self._gpu.new(self._gpu.execs, executable))

    def cudaGraphLaunch(self, graphExec: Any, stream: Any) -> None:
        graph, place = self._gpu.execs.get(int(graphExec)), self._gpu.stream(stream)
        if graph is None:
            self._gpu.violate("a destroyed graph is launched")
            raise CudaFailure(Status.cudaErrorInvalidValue)
        for template in graph.works:
            # Launches of one graph do not overlap.
            work = template.again()
            self._gpu.enqueue(place, work, graph.last)
            graph.last = work

    def cudaGraphDestroy(self, graph: Any) -> None:
        if self._gpu.graphs.pop(int(graph), None) is None:
            raise CudaFailure(Status.cudaErrorInvalidValue)

    def cudaGraphExecDestroy(self, graphExec: Any) -> None:
        if self._gpu.execs.pop(int(graphExec), None) is None:
            raise CudaFailure(Status.cudaErrorInvalidValue)


def _on_host(kind: Any) -> tuple[bool, bool]:
    """Return whether a copy's source and target are on the host."""
    return {
        Kind.cudaMemcpyHostToDevice: (True, False),
        Kind.cudaMemcpyDeviceToHost: (False, True),
        Kind.cudaMemcpyDeviceToDevice: (False, False),
    }[kind]


def _check_done(work: Work | None) -> None:
    if work is not None and not work.done:
        raise CudaFailure(Status.cudaErrorNotReady)
