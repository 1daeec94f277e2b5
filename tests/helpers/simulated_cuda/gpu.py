"""The state of a simulated GPU, its rules for captures, and its injected failures."""

import threading
from collections import Counter
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeVar

from cuda.bindings import runtime as real

from tests.helpers.simulated_cuda.memory import Memory
from tests.helpers.simulated_cuda.work import Capture, Event, GraphExec, Schedule, Stream, Work

T = TypeVar("T", Stream, Event)
U = TypeVar("U")

Status = real.cudaError_t
Mode = real.cudaStreamCaptureMode

PRIMARY = 0xC0DE
"""Handle of the context that the runtime creates by itself."""
LEGACY, PER_THREAD = 1, 2
"""Streams that always exist; 0 also means the legacy stream."""


class CudaFailure(Exception):  # noqa: N818 (a status, not an error of the test)
    """The failure of a simulated call, with its status."""

    def __init__(self, status: Any) -> None:
        super().__init__(status)
        self.status = status


@dataclass(frozen=True)
class Fault:
    """An injected failure of one call."""

    sticky: bool
    """Whether all later calls also fail."""


class SimulatedGpu:
    """The GPU of a process; its functions are in `Runtime`, `Driver` and `tensorrt`."""

    def __init__(self, total: int = 8 << 30) -> None:
        self.lock = threading.RLock()
        self._total = total
        self.lost: list[str] = []
        """Reasons why CUDA needs a restart of the process, as in `hfdn_deploy.cuda`."""
        self.restart()

    def restart(self) -> None:
        """Reset the state, as in a new process."""
        self.lost.clear()
        self.memory = Memory(self._total)
        self.schedule = Schedule(self.violate)
        self.streams: dict[int, Stream] = {}
        self.events: dict[int, Event] = {}
        self.graphs: dict[int, list[Work]] = {}
        self.execs: dict[int, GraphExec] = {}
        self.objects: Counter[str] = Counter()
        """Number of live TensorRT objects, by kind."""
        self.runs: list[tuple[str, tuple[int, ...]]] = []
        """Computed inferences: "plain" or "graph", and the shape of the image."""
        self.contexts = {PRIMARY}
        self.primary = False
        """Whether the primary context exists, because it was current before."""
        self.started = False
        """Whether a call of the runtime has started the driver."""
        self.target = (8, 9)
        """Compute capability."""
        self.violations: list[str] = []
        self.calls: list[str] = []
        """Every call, in order."""
        self.sticky: Any = None
        """Status of all calls since the context became unusable."""
        self._faults: dict[int, Fault] = {}
        self._defaults: dict[tuple[int, int], Stream] = {}
        self._handles = count(0x1000, 16)
        self._local = threading.local()

    def violate(self, text: str) -> None:
        """Record behaviour that is undefined on a GPU."""
        self.violations.append(text)

    def fail(self, number: int, *, sticky: bool = False) -> None:
        """Make a call fail.

        Args:
            number: number of the call; 1 is the next call.
            sticky: whether all later calls also fail, as after a kernel that broke its context.
        """
        self._faults[len(self.calls) + number] = Fault(sticky)

    @property
    def unmet(self) -> bool:
        """Return whether an injected failure is still pending, for lack of calls."""
        return bool(self._faults)

    def forget_faults(self) -> None:
        """Remove the pending failures."""
        self._faults.clear()

    def entered(self, name: str) -> Any:
        """Count a call and return the status with which it must fail, or None."""
        self.calls.append(name)
        fault = self._faults.pop(len(self.calls), None)
        if fault and fault.sticky:
            self.sticky = Status.cudaErrorIllegalAddress
        if self.sticky or not fault:
            return self.sticky
        memory = "Malloc" in name
        return Status.cudaErrorMemoryAllocation if memory else Status.cudaErrorUnknown

    def new(self, kept: dict[int, U], value: U) -> int:
        """Store an object under a new handle and return the handle."""
        handle = next(self._handles)
        kept[handle] = value
        return handle

    @property
    def context(self) -> int:
        """The current context of this thread, or 0."""
        return int(getattr(self._local, "context", 0))

    @context.setter
    def context(self, handle: int) -> None:
        self._local.context = handle
        self.primary = self.primary or handle == PRIMARY

    def destroy(self, context: int) -> None:
        """Destroy a context that the runtime did not create, with all of its memory."""
        self.contexts.remove(context)
        for pinned, blocks in ((False, self.memory.device), (True, self.memory.pinned)):
            for pointer in [each for each in blocks if blocks[each].context == context]:
                self.memory.free(pointer, pinned=pinned)

    def stream(self, handle: Any) -> Stream:
        """Return a stream of the current context.

        Raises:
            CudaFailure: the stream does not exist, was destroyed, or belongs to another context.
        """
        number = int(handle) or LEGACY
        if number in (LEGACY, PER_THREAD):
            return self._default(number)
        return self._owned(self.streams, number)

    def _default(self, number: int) -> Stream:
        return self._defaults.setdefault((number, self.context), Stream(self.context))

    def all_streams(self) -> list[Stream]:
        """Return the streams of the current context."""
        streams = [*self.streams.values(), *self._defaults.values()]
        return [each for each in streams if each.context == self.context]

    def event(self, handle: Any) -> Event:
        """Return an event of the current context; raises like `stream`."""
        return self._owned(self.events, int(handle))

    def _owned(self, kept: dict[int, T], handle: int) -> T:
        found = kept.get(handle)
        if found is None or found.context != self.context:
            raise CudaFailure(Status.cudaErrorInvalidResourceHandle)
        return found

    def enqueue(self, stream: Stream, work: Work, *after: Work | None) -> None:
        """Add work to a stream, or to the graph that is captured from it."""
        if stream.capture:
            if stream.capture.invalid:
                raise CudaFailure(Status.cudaErrorStreamCaptureInvalidated)
            stream.capture.works.append(work)
            return
        order = [stream.last, *after]
        if stream.blocking:
            legacy = self._default(LEGACY)
            others = [each for each in self.all_streams() if each.blocking]
            if stream is legacy:
                captures = [each.capture for each in others if each.capture]
                self.invalidate(captures, Status.cudaErrorStreamCaptureImplicit)
                order += [each.last for each in others]
            else:
                order.append(legacy.last)
        self.schedule.add(work, order)
        stream.last = work

    def captures(self) -> list[Capture]:
        """Return the captures in progress in the current context."""
        return [each.capture for each in self.all_streams() if each.capture]

    def check_unsafe(self) -> None:
        """Raise CudaFailure if a capture forbids a call that may synchronise or allocate."""
        mine = [
            each
            for each in self.captures()
            if each.mode == Mode.cudaStreamCaptureModeGlobal
            or (
                each.mode == Mode.cudaStreamCaptureModeThreadLocal
                and each.thread == threading.get_ident()
            )
        ]
        self.invalidate(mine, Status.cudaErrorStreamCaptureUnsupported)

    def invalidate(self, captures: list[Capture], status: Any) -> None:
        """End captures without a graph, if there are any, and raise CudaFailure."""
        for each in captures:
            each.invalid = True
        if captures:
            raise CudaFailure(status)

    def leaks(self) -> dict[str, int]:
        """Return the number of objects that still exist, by kind."""
        found = {
            "device bytes": self.memory.used,
            "pinned blocks": len(self.memory.pinned),
            "streams": len(self.streams),
            "events": len(self.events),
            "graphs": len(self.graphs),
            "executable graphs": len(self.execs),
            **self.objects,
        }
        return {kind: number for kind, number in found.items() if number}
