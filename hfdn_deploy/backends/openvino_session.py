"""A graph compiled by OpenVINO: for any size, and for those that will come often."""

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
"""Of the inputs of a graph, by name."""


@cache
def core() -> Any:
    """OpenVINO's, one for the process."""
    return import_openvino().Core()


def compile_graph(data: bytes, hint: str, shapes: Shapes | None = None, streams: int = 1) -> Any:
    """An ONNX file compiled for one image at a time in each stream, on the physical cores.

    For any size, it is kept on disk for the next process.

    Args:
        data: the file.
        hint: what is not in integers computes in, as OpenVINO names it.
        shapes: of the inputs, if they are to be fixed.
        streams: that share the cores.

    Raises:
        BackendError: OpenVINO refuses the graph.
    """
    settings = {
        "INFERENCE_PRECISION_HINT": hint,
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_HYPER_THREADING": False,
        # Tied to cores, threads wait for whatever else runs there: on a busy machine the slowest
        # of twelve runs took 6.2 s, and 0.6 s without (measured once).
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_NUM_THREADS": threads(),
        # It would keep what it prepares for each size: 2.9 GB after 1,000 sizes in int8, and 0.6
        # without, with no size run faster when it came again.
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
    """What computes a compiled graph, for one thread in each of its streams."""

    def __init__(self, compiled: Any, number: int) -> None:
        self.compiled, self.number = compiled, number
        self._idle: SimpleQueue[Any] = SimpleQueue()
        for _ in range(number):
            self._idle.put(compiled.create_infer_request())

    def take(self) -> Any:
        """One that is idle, when there is one; it must be given back."""
        return self._idle.get()

    def give_back(self, request: Any) -> None:
        """Let others take it."""
        self._idle.put(request)

    def release(self) -> None:
        """Give back the memory that they keep, when all are idle; nobody may take one then."""
        requests = [self._idle.get() for _ in range(self.number)]
        self.compiled.release_memory()
        for request in requests:
            self._idle.put(request)


class Session:
    """A graph compiled for any size, and for those that come often."""

    def __init__(
        self, data: bytes, hint: str, check: Callable[[Any], None], *, repeats: bool = False
    ) -> None:
        """Compile a graph; `check` refuses what is compiled otherwise than asked for.

        With `repeats`, inputs of one shape will come many times: the graph is compiled for each
        shape that comes, and for no other. Two shapes are kept, since an ensemble turns the image.

        Raises:
            BackendError: OpenVINO or `check` refuses it.
        """
        self._data, self._hint, self._check, self._repeats = data, hint, check, repeats
        self.dynamic = None if repeats else self._compiled(data)
        """For any size."""
        self.fixed: dict[Shapes, Requests] = {}
        """By the shapes of the inputs."""
        self._last: Requests | None = None

    def _compiled(self, data: bytes, shapes: Shapes | None = None, streams: int = 1) -> Requests:
        compiled = compile_graph(data, self._hint, shapes, streams)
        self._check(compiled)
        return Requests(compiled, streams)

    def fix(self, shapes: Shapes, streams: int) -> Requests:
        """Compile for inputs of these shapes, too, in place of the oldest; errors as above."""
        found = self.fixed.get(shapes)
        if found and found.number == streams:
            return found
        self.release()
        if len(self.fixed) == (2 if self._repeats else 1):
            del self.fixed[next(iter(self.fixed))]
        # Of shapes that are not fixed, OpenVINO would move memory at each step of these.
        data = pixels_by_rows(onnx.load_model_from_string(self._data)).SerializeToString()
        self.fixed[shapes] = self._compiled(data, shapes, streams)
        return self.fixed[shapes]

    def requests(self, feeds: Mapping[str, NDArray[Any]]) -> Requests:
        """Those that compute inputs of these shapes; what the others keep is given back."""
        shapes = tuple((name, x.shape) for name, x in feeds.items())
        requests = self.fixed.get(shapes) or self.dynamic or self.fix(shapes, 1)
        if requests is not self._last:
            self.release()
        self._last = requests
        return requests

    def release(self) -> None:
        """Give back the memory that the last runs left; the other requests keep none."""
        if self._last:
            self._last.release()
            self._last = None
