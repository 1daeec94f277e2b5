"""A graph compiled by OpenVINO: for any size, and for one that will come often."""

from collections.abc import Callable, Mapping
from functools import cache
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


class Session:
    """A graph that runs one call at a time, compiled for any size and, if asked for, for one."""

    def __init__(self, data: bytes, hint: str, check: Callable[[Any], None]) -> None:
        """Compile a graph; `check` refuses what is compiled otherwise than asked for.

        Raises:
            BackendError: OpenVINO or `check` refuses it.
        """
        self._data, self._hint, self._check = data, hint, check
        self.request = self._compiled(data)
        """For any size."""
        self._fixed: tuple[Shapes, Any] | None = None
        self._last: Any = None

    def _compiled(self, data: bytes, shapes: Shapes | None = None) -> Any:
        compiled = compile_graph(data, self._hint, shapes)
        self._check(compiled)
        return compiled.create_infer_request()

    def fix(self, shapes: Shapes) -> None:
        """Compile for inputs of these shapes, too, in place of those before; errors as above."""
        if self._fixed and self._fixed[0] == shapes:
            return
        # Of shapes that are not fixed, OpenVINO would move memory at each step of these.
        data = pixels_by_rows(onnx.load_model_from_string(self._data)).SerializeToString()
        self._fixed = shapes, self._compiled(data, shapes)

    def infer(self, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs for inputs by name, in the order of the graph's."""
        shapes = tuple((name, x.shape) for name, x in feeds.items())
        request = self.request
        if self._fixed and self._fixed[0] == shapes:
            request = self._fixed[1]
        if request is not self._last:
            self.release()
        self._last = request
        return list(request.infer(dict(feeds), share_inputs=True).to_tuple())

    def release(self) -> None:
        """Give back the memory that the last run left; the other request keeps none."""
        if self._last:
            self._last.get_compiled_model().release_memory()
            self._last = None
