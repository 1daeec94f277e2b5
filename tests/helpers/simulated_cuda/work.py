"""The order of simulated work: streams, events, and graphs captured from a stream."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from threading import get_ident
from typing import Any

from cuda.bindings import runtime

from tests.helpers.simulated_cuda.memory import Span


@dataclass(eq=False)
class Work:
    """A unit of work in a stream."""

    name: str
    run: Callable[[], None] = lambda: None
    reads: tuple[Span, ...] = ()
    writes: tuple[Span, ...] = ()
    after: list["Work"] = field(default_factory=list)
    done: bool = False

    def conflicts(self, other: "Work") -> bool:
        """Return whether the order of the two could change the result."""
        return any(
            one.overlaps(two)
            for these, those in (
                (self.writes, other.writes + other.reads),
                (self.reads, other.writes),
            )
            for one in these
            for two in those
        )

    def again(self) -> "Work":
        """Return the same work to be done again, for another launch of a graph."""
        return replace(self, after=[], done=False)


@dataclass(eq=False)
class Capture:
    """Work that is being captured from a stream into a graph."""

    mode: Any
    thread: int = field(default_factory=get_ident)
    works: list[Work] = field(default_factory=list)
    invalid: bool = False

    def is_of_another_thread(self) -> bool:
        """Return whether this thread must not end the capture."""
        relaxed = self.mode == runtime.cudaStreamCaptureMode.cudaStreamCaptureModeRelaxed
        return not relaxed and self.thread != get_ident()


@dataclass(eq=False)
class Stream:
    """A queue of work."""

    context: int
    blocking: bool = True
    """Whether the stream is ordered with the legacy default stream."""
    last: Work | None = None
    capture: Capture | None = None


@dataclass(eq=False)
class Event:
    """A position in a stream."""

    context: int
    work: Work | None = None
    seconds: float = 0.0
    captured: bool = False


@dataclass(eq=False)
class GraphExec:
    """A graph that can be launched."""

    works: Sequence[Work]
    last: Work | None = None


class Schedule:
    """All enqueued work that has not been waited for."""

    def __init__(self, violate: Callable[[str], None]) -> None:
        self.pending: list[Work] = []
        self._violate = violate

    def add(self, work: Work, after: Iterable[Work | None]) -> None:
        """Enqueue work; a conflict with unordered pending work is a violation."""
        work.after = [each for each in after if each and not each.done]
        before = self._ancestors(work)
        for other in self.pending:
            if other not in before and work.conflicts(other):
                self._violate(f"{work.name} does not wait for {other.name}, which is pending")
        self.pending.append(work)

    def finish(self, work: Work | None) -> None:
        """Do work and its predecessors, but nothing else."""
        if work is None or work.done:
            return
        due = self._ancestors(work)
        # Predecessors were enqueued earlier, so the order of `pending` is valid.
        for each in [each for each in self.pending if each in due]:
            self.pending.remove(each)
            each.done = True
            try:
                each.run()
            except LookupError as error:
                self._violate(f"{each.name}: {error}")
            each.after = []

    def touches(self, span: Span) -> Work | None:
        """Return pending work that reads or writes a span, if any."""
        probe = Work("", writes=(span,))
        return next((work for work in self.pending if probe.conflicts(work)), None)

    @staticmethod
    def _ancestors(work: Work) -> set[Work]:
        found, todo = set(), [work]
        while todo:
            each = todo.pop()
            if each not in found and not each.done:
                found.add(each)
                todo += each.after
        return found
