"""A training step as one CUDA graph."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

# Eager calls before the capture, which create library handles and choose convolution algorithms.
WARM_UP = 3


class Step:
    """A function that only queues work on a device, replayed as one CUDA graph on CUDA.

    The function must read and write the same tensors at every call. The graph repeats the work
    queued by the fourth call, so from then on the function's host code no longer runs.
    """

    def __init__(self, function: Callable[[], None], device: str) -> None:
        self._function = function
        self._stream = torch.cuda.Stream() if device == "cuda" else None  # type: ignore[no-untyped-call]
        self._graph: torch.cuda.CUDAGraph | None = None
        self._calls = 0

    def __call__(self) -> None:
        if self._stream is None:
            self._function()
            return
        if self._graph is None and self._calls == WARM_UP:
            self._graph = self._captured(self._stream)
        if self._graph is not None:
            self._graph.replay()
            return
        self._calls += 1
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream), _measured_convolutions():
            self._function()
        current.wait_stream(self._stream)

    def _captured(self, stream: torch.cuda.Stream) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        # Capture on the stream of the warm-up, whose library handles exist.
        with torch.cuda.graph(graph, stream=stream), _measured_convolutions():
            self._function()
        return graph


@contextmanager
def _measured_convolutions() -> Iterator[None]:
    """Let cuDNN measure its algorithms; this pays for one shape, not for validation's many."""
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = False
