"""ONNX Runtime on the CPU, and the base of its backends on all providers."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from hfdn_deploy.backends.base import Features
from hfdn_deploy.backends.graph_backend import GraphBackend
from hfdn_deploy.backends.probes import eight_bit_products_saturate, identity, import_reason
from hfdn_deploy.backends.spec import BACKENDS, Obstacle
from hfdn_deploy.bundle import Bundle, graph_for
from hfdn_deploy.errors import BackendError, HFDNError
from hfdn_deploy.graph import INPUT
from hfdn_deploy.machine import threads

# `Tiling.memory` on the CPU by precision and scale; `python -m benchmarks memory` measures it.
_MEMORY = {
    "fp32": {2: 6600, 3: 9000, 4: 12300},
    "fp16": {2: 7600, 3: 14000, 4: 26000},
    "int8": {2: 3200, 3: 6700, 4: 12700},
}
# The same for int8 with the exact kernels, see `session_options`.
_EXACT_MEMORY = {2: 4500, 3: 9500, 4: 15500}


CPU_PROVIDER = "CPUExecutionProvider"


@cache
def _share_arena() -> None:
    """Make one arena for all sessions of this process.

    An arena does not shrink by itself, so with one each, the graphs that tiles run in turn would
    all keep their peak.
    """
    import onnxruntime as ort

    kind = ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    cpu = ort.OrtMemoryInfo("Cpu", kind, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(cpu, None)


def session_options() -> Any:
    """Return the options of every session; `python -m benchmarks sessions` measures alternatives.

    Those measurements found the defaults for threads, arena and graph optimisations the fastest.
    Where 8-bit products saturate, the options select the slower kernels that are exact.
    """
    import onnxruntime as ort

    _share_arena()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads()
    options.log_severity_level = 3
    options.add_session_config_entry("session.use_env_allocators", "1")
    # Patterns take up to twice the memory from the second run of a size on, and save no time.
    options.enable_mem_pattern = False
    if eight_bit_products_saturate():
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


class OnnxRuntimeSessions(GraphBackend):
    """One graph of a bundle in ONNX Runtime, on exactly one provider.

    Raises:
        BackendError: ONNX Runtime refuses the graph or would use another provider.
    """

    provider: str
    """ONNX Runtime's name of the provider."""

    @classmethod
    def why_unavailable(cls) -> Obstacle | None:
        """See `Backend.why_unavailable`."""
        install = BACKENDS[cls.name].install
        try:
            import onnxruntime as ort

            providers = ort.get_available_providers()
        except (ImportError, AttributeError) as error:
            if getattr(error, "name", None) == "onnxruntime":
                extra = BACKENDS[cls.name].device
                return Obstacle(
                    "ONNX Runtime is not installed", f"pip install 'hfdn-deploy[{extra}]'"
                )
            return Obstacle(f"ONNX Runtime cannot be imported ({import_reason(error)})", install)
        if cls.provider not in providers:
            return Obstacle(f"this ONNX Runtime has no {cls.provider}", install)
        try:
            cls.make_session(identity())
        except BackendError as error:
            return Obstacle(error.reason, error.advice)
        return None

    @classmethod
    def open(cls, model: Bundle, precision: str) -> Self:
        """See `Backend.open`."""
        graph = graph_for(precision, str(BACKENDS[cls.name].dialect))
        data = model.read_model(graph)
        return cls(precision, model.manifest.scale, data, model.entry(graph))

    @classmethod
    def make_session(cls, data: bytes) -> Any:
        """Make a session on exactly the provider of this backend.

        Raises:
            BackendError: ONNX Runtime refuses the graph or would use another provider.
        """
        import onnxruntime as ort

        options = session_options()
        # Without this, the CPU silently replaces a provider that fails or lacks a kernel.
        if cls.provider != CPU_PROVIDER:
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        try:
            return cls.new_session(data, options)
        except BackendError:
            raise
        except Exception as error:  # its exceptions share no base class but this
            if "fallback to CPU EP" in str(error):
                raise BackendError(
                    f"{cls.provider} of ONNX Runtime {ort.__version__} would leave work to the "
                    "CPU: it does not work here, or lacks an operator",
                    "see `hfdn doctor`, or use backend onnxruntime",
                ) from None
            raise BackendError(
                f"ONNX Runtime {ort.__version__} refuses the graph: {error}"
            ) from error

    @classmethod
    def new_session(cls, data: bytes, options: Any) -> Any:
        """Make a session that requests the provider."""
        import onnxruntime as ort

        return ort.InferenceSession(data, options, providers=[cls.provider])

    def open_session(self, data: bytes) -> Any:
        """See `GraphBackend.open_session`."""
        return self.make_session(data)

    def run_session(
        self, session: Any, lr: NDArray[np.float32], others: Features | None = None
    ) -> list[NDArray[Any]]:
        """See `GraphBackend.run_session`."""
        with failures(*lr.shape[2:]):
            feeds = {self.entry.input.name: lr, **(others or {})}
            return [np.asarray(output) for output in session.run(None, feeds)]

    def run_images(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """See `Backend.run_images`."""
        session = self.image_session
        with failures(*images.shape[1:3]):
            (upscaled,) = session.run(None, {INPUT: images})
            return np.asarray(upscaled)


class OnnxRuntimeBackend(OnnxRuntimeSessions):
    """ONNX Runtime on the CPU."""

    name = "onnxruntime"
    forks = True
    provider = CPU_PROVIDER

    @classmethod
    def why_slow(cls, precision: str) -> Obstacle | None:
        """See `Backend.why_slow`; exact kernels take twice the time (docs/results/sessions.md)."""
        if precision == "int8" and eight_bit_products_saturate():
            reason = "8-bit products saturate on this CPU, and exact ones are no faster than fp32"
            return Obstacle(reason, "use precision int8")
        return None

    def trim(self) -> None:
        """See `Backend.trim`; a small run shrinks the arena that all sessions share."""
        import onnxruntime as ort

        options = ort.RunOptions()
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        lr = np.zeros((1, 1, 8, 8), np.float32)
        self.session.run(None, {self.entry.input.name: lr}, options)

    @property
    def memory(self) -> int:
        """See `Tiling.memory`."""
        exact = self.precision == "int8" and eight_bit_products_saturate()
        return (_EXACT_MEMORY if exact else _MEMORY[self.precision])[self.scale]


@contextmanager
def failures(height: int, width: int) -> Iterator[None]:
    """Turn ONNX Runtime's exceptions in the block into errors that name the input's size.

    Raises:
        BackendError: ONNX Runtime failed.
    """
    try:
        yield
    except HFDNError:
        raise
    except Exception as error:  # its exceptions share no base class but this
        raise BackendError(
            f"ONNX Runtime failed on an input of {width}×{height}: {error}"
        ) from error
