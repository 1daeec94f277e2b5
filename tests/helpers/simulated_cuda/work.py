"""The order of simulated work: streams, events, and graphs that were captured from a stream."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from threading import get_ident
from typing import Any

from cuda.bindings import runtime

from tests.helpers.simulated_cuda.memory import Span


@dataclass(eq=False)
class Work:
    """Something that a stream does."""

    name: str
    run: Callable[[], None] = lambda: None
    reads: tuple[Span, ...] = ()
    writes: tuple[Span, ...] = ()
    after: list["Work"] = field(default_factory=list)
    done: bool = False

    def conflicts(self, other: "Work") -> bool:
        """Whether the two in another order could give another result."""
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
        """The same to be done once more, as a graph is."""
        return replace(self, after=[], done=False)


@dataclass(eq=False)
class Capture:
    """A stream's work on its way to a graph."""

    mode: Any
    thread: int = field(default_factory=get_ident)
    works: list[Work] = field(default_factory=list)
    invalid: bool = False

    def is_of_another_thread(self) -> bool:
        """Whether this thread must not end it."""
        relaxed = self.mode == runtime.cudaStreamCaptureMode.cudaStreamCaptureModeRelaxed
        return not relaxed and self.thread != get_ident()


@dataclass(eq=False)
class Stream:
    """A queue of work."""

    context: int
    blocking: bool = True
    """Whether it is ordered with the legacy default stream."""
    last: Work | None = None
    capture: Capture | None = None


@dataclass(eq=False)
class Event:
    """A place in a stream."""

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
    """All work that was enqueued and nobody has waited for."""

    def __init__(self, violate: Callable[[str], None]) -> None:
        self.pending: list[Work] = []
        self._violate = violate

    def add(self, work: Work, after: Iterable[Work | None]) -> None:
        """Enqueue work; it is a violation if its result depends on when others of it run."""
        work.after = [each for each in after if each and not each.done]
        before = self._ancestors(work)
        for other in self.pending:
            if other not in before and work.conflicts(other):
                self._violate(f"{work.name} does not wait for {other.name}, which is under way")
        self.pending.append(work)

    def finish(self, work: Work | None) -> None:
        """Do work, and before it all that it comes after, but nothing else."""
        if work is None or work.done:
            return
        due = self._ancestors(work)
        # What comes before something was enqueued before it.
        for each in [each for each in self.pending if each in due]:
            self.pending.remove(each)
            each.done = True
            try:
                each.run()
            except LookupError as error:
                self._violate(f"{each.name}: {error}")
            each.after = []

    def touches(self, span: Span) -> Work | None:
        """Work under way that reads or writes some bytes."""
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
