"""Graphs compiled by OpenVINO for any size, and for sizes that come often."""

from collections.abc import Callable, Mapping
from functools import cache
from queue import SimpleQueue
from typing import Any

import onnx
from numpy.typing import NDArray

from hfdn_deploy.backends.compiled import load_compiled
from hfdn_deploy.backends.quiet_openvino import import_openvino
from hfdn_deploy.errors import BackendError
from hfdn_deploy.graph import pixels_by_rows
from hfdn_deploy.machine import threads

Shapes = tuple[tuple[str, tuple[int, ...]], ...]
"""Shapes of the inputs of a graph, by name."""


@cache
def core() -> Any:
    """Return the process's `openvino.Core`."""
    return import_openvino().Core()


def compile_graph(data: bytes, hint: str, shapes: Shapes | None = None, streams: int = 1) -> Any:
    """Compile an ONNX file for one image at a time in each stream, on the physical cores.

    A graph without fixed shapes is kept on disk for the next process.

    Args:
        data: the bytes of the file.
        hint: OpenVINO's type for operations that are not in integers.
        shapes: fixed shapes of the inputs, if any.
        streams: number of streams that share the cores.

    Raises:
        BackendError: OpenVINO refuses the graph.
    """
    settings = {
        "INFERENCE_PRECISION_HINT": hint,
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_HYPER_THREADING": False,
        # Pinned threads wait for other processes on their cores: on a busy machine the slowest of
        # twelve runs took 6.2 s pinned and 0.6 s unpinned (measured once).
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_NUM_THREADS": threads(),
        # The cache keeps objects of each size: 2.9 GB after 1,000 sizes in int8, against 0.6 GB
        # without it, and does not make a size faster that comes again.
        "CPU_RUNTIME_CACHE_CAPACITY": 0,
    }
    if streams > 1:
        settings["NUM_STREAMS"] = streams
    try:
        if not shapes:
            return load_compiled(core(), data, settings)
        model = core().read_model(data)
        model.reshape({name: list(shape) for name, shape in shapes})
        return core().compile_model(model, "CPU", settings)
    except RuntimeError as error:
        raise BackendError(f"OpenVINO refuses the graph: {error}") from error


class Requests:
    """Pool of a compiled graph's inference requests, one for each stream."""

    def __init__(self, compiled: Any, number: int) -> None:
        self.compiled, self.number = compiled, number
        self._idle: SimpleQueue[Any] = SimpleQueue()
        for _ in range(number):
            self._idle.put(compiled.create_infer_request())

    def take(self) -> Any:
        """Wait for an idle request and return it; the caller must give it back."""
        return self._idle.get()

    def give_back(self, request: Any) -> None:
        """Return a request to the pool."""
        self._idle.put(request)

    def release(self) -> None:
        """Wait for all requests and free their memory; no thread may take one meanwhile."""
        requests = [self._idle.get() for _ in range(self.number)]
        self.compiled.release_memory()
        for request in requests:
            self._idle.put(request)


class Session:
    """A graph compiled for any size, and for sizes that come often."""

    def __init__(
        self, data: bytes, hint: str, check: Callable[[Any], None], *, repeats: bool = False
    ) -> None:
        """Compile a graph.

        Args:
            data: the graph in ONNX.
            hint: see `compile_graph`.
            check: raises BackendError if the compiled graph is not as requested.
            repeats: inputs of one shape will come many times. The graph is then compiled for each
                shape that comes, not for any size; two are kept, since an ensemble turns images.

        Raises:
            BackendError: OpenVINO or `check` refuses the graph.
        """
        self._data, self._hint, self._check, self._repeats = data, hint, check, repeats
        self.dynamic = None if repeats else self._compiled(data)
        """Requests for any size; None with `repeats`."""
        self.fixed: dict[Shapes, Requests] = {}
        """Requests by the fixed shapes of the inputs."""
        self._last: Requests | None = None

    def _compiled(self, data: bytes, shapes: Shapes | None = None, streams: int = 1) -> Requests:
        compiled = compile_graph(data, self._hint, shapes, streams)
        self._check(compiled)
        return Requests(compiled, streams)

    def fix(self, shapes: Shapes, streams: int) -> Requests:
        """Compile for fixed shapes, which replace the oldest ones; errors as in `__init__`."""
        found = self.fixed.get(shapes)
        if found and found.number == streams:
            return found
        self.release()
        if len(self.fixed) == (2 if self._repeats else 1):
            del self.fixed[next(iter(self.fixed))]
        # Not for dynamic shapes, where OpenVINO moves memory at each of these steps.
        data = pixels_by_rows(onnx.load_model_from_string(self._data)).SerializeToString()
        self.fixed[shapes] = self._compiled(data, shapes, streams)
        return self.fixed[shapes]

    def requests(self, feeds: Mapping[str, NDArray[Any]]) -> Requests:
        """Return the requests for inputs of these shapes, and free the memory of the others."""
        shapes = tuple((name, x.shape) for name, x in feeds.items())
        requests = self.fixed.get(shapes) or self.dynamic or self.fix(shapes, 1)
        if requests is not self._last:
            self.release()
        self._last = requests
        return requests

    def release(self) -> None:
        """Free the memory of the requests that ran last; the others keep none."""
        if self._last:
            self._last.release()
            self._last = None
