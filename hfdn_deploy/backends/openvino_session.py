"""A graph compiled by OpenVINO: for any size, and for sizes that keep coming."""

import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import cache
from threading import RLock
from time import perf_counter
from typing import Any

import onnx
from numpy.typing import NDArray

from hfdn_deploy.backends.compiled import load_compiled
from hfdn_deploy.backends.quiet_openvino import import_openvino
from hfdn_deploy.errors import BackendError
from hfdn_deploy.graph import pixels_by_rows
from hfdn_deploy.machine import free_memory, threads

Shapes = tuple[tuple[str, tuple[int, ...]], ...]
"""Of the inputs of a graph, by name."""

# Bytes that all graphs compiled for a size may take in a process, and what one takes for each byte
# of its file, at scales 2 and 4.
_BUDGET = 128 * 2**20
_FOR_EACH_BYTE = 30
# What the runs of a size must have taken before it is compiled for, which takes 0.3 to 1 s.
_WORTH_SECONDS = 1.0
# Nothing is, where there is less free memory than this many times of it.
_FREE = 8
# Sizes whose use is counted.
_COUNTED = 256


@cache
def core() -> Any:
    """OpenVINO's, one for the process."""
    return import_openvino().Core()


def compile_graph(data: bytes, hint: str, shapes: Shapes | None = None) -> Any:
    """An ONNX file compiled for one image at a time, on the physical cores.

    For any size, it is kept on disk for the next process.

    Args:
        data: the file.
        hint: what is not in integers computes in, as OpenVINO names it.
        shapes: of the inputs, if they are to be fixed.

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
    try:
        if not shapes:
            return load_compiled(core(), data, settings)
        model = core().read_model(data)
        model.reshape({name: list(shape) for name, shape in shapes})
        return core().compile_model(model, "CPU", settings)
    except RuntimeError as error:
        raise BackendError(f"OpenVINO refuses the graph: {error}") from error


class _Fixed:
    """What is compiled for sizes, for all sessions of the process; the least recent goes first."""

    def __init__(self) -> None:
        self._lock = RLock()  # a session may go while it is held
        self._requests: OrderedDict[tuple[int, Shapes], tuple[Any, int]] = OrderedDict()

    def find(self, session: int, shapes: Shapes) -> Any:
        """The request of a session for these shapes, if it is kept."""
        with self._lock:
            if (session, shapes) not in self._requests:
                return None
            self._requests.move_to_end((session, shapes))
            return self._requests[session, shapes][0]

    def keep(self, session: int, shapes: Shapes, request: Any, size: int) -> None:
        """Keep a request of so many bytes, and as many of the others as the budget allows."""
        with self._lock:
            self._requests[session, shapes] = request, size
            while len(self._requests) > 1 and self._size > _BUDGET:
                self._requests.popitem(last=False)

    @property
    def _size(self) -> int:
        return sum(size for _, size in self._requests.values())

    def forget(self, session: int) -> None:
        """Let go what a session has."""
        with self._lock:
            for key in [key for key in self._requests if key[0] == session]:
                del self._requests[key]


_fixed = _Fixed()


class Session:
    """A graph that runs one call at a time, compiled for any size.

    With `repeats` it is compiled for a size, too, once that was used twice and its runs have taken
    as long as that takes. What the sessions of a process have so keeps within `_BUDGET`.
    """

    def __init__(self, data: bytes, hint: str, check: Callable[[Any], None], repeats: bool) -> None:
        """Compile a graph; `check` refuses what is compiled otherwise than asked for.

        Raises:
            BackendError: OpenVINO or `check` refuses it.
        """
        self._data, self._hint, self._check, self._repeats = data, hint, check, repeats
        self.request = self._compiled(data)
        """For any size."""
        self._last: Any = None
        self._used: OrderedDict[Shapes, tuple[int, float]] = OrderedDict()
        weakref.finalize(self, _fixed.forget, id(self))

    def _compiled(self, data: bytes, shapes: Shapes | None = None) -> Any:
        compiled = compile_graph(data, self._hint, shapes)
        self._check(compiled)
        return compiled.create_infer_request()

    def infer(self, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs for inputs by name, in the order of the graph's."""
        shapes = tuple((name, x.shape) for name, x in feeds.items())
        request = self._request_for(shapes) if self._repeats else self.request
        if request is not self._last:
            self.release()
        self._last = request
        start = perf_counter()
        outputs = list(request.infer(dict(feeds), share_inputs=True).to_tuple())
        if self._repeats and request is self.request:
            times, seconds = self._used.pop(shapes, (0, 0.0))
            self._used[shapes] = times + 1, seconds + perf_counter() - start
            if len(self._used) > _COUNTED:
                self._used.popitem(last=False)
        return outputs

    def release(self) -> None:
        """Give back the memory that the last run left; the other requests keep none."""
        if self._last:
            self._last.get_compiled_model().release_memory()
            self._last = None

    def _request_for(self, shapes: Shapes) -> Any:
        """The fastest request there is for these shapes, or shall be from now on."""
        if found := _fixed.find(id(self), shapes):
            return found
        times, seconds = self._used.get(shapes, (0, 0.0))
        size = _FOR_EACH_BYTE * len(self._data)
        if times < 2 or seconds < _WORTH_SECONDS or free_memory() < _FREE * size:
            return self.request
        # Of shapes that are not fixed, OpenVINO would move memory at each step of these.
        data = pixels_by_rows(onnx.load_model_from_string(self._data)).SerializeToString()
        request = self._compiled(data, shapes)
        del self._used[shapes]  # if it has to go, it must be worth it once more
        _fixed.keep(id(self), shapes, request, size)
        return request
