"""Builds of engines from ONNX files, strongly typed, with one path for all flavours."""

import logging
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

from hfdn_deploy import cuda
from hfdn_deploy.atomic import replaced
from hfdn_deploy.bundle import TensorSpec
from hfdn_deploy.engines.bindings import (
    Builder,
    IBuilderConfig,
    ILogger,
    IOptimizationProfile,
    TensorRT,
)
from hfdn_deploy.engines.flavour import FLAVOURS
from hfdn_deploy.engines.spec import BuildSpec, ShapeProfile
from hfdn_deploy.errors import BackendError
from hfdn_deploy.interruption import deferred

logger = logging.getLogger(__name__)

T = TypeVar("T")


def build_engine(
    name: str,
    model: bytes,
    inputs: Sequence[TensorSpec],
    spec: BuildSpec,
    timing_cache: Path | None = None,
) -> bytes:
    """Build an engine, showing the elapsed time on a terminal.

    Args:
        name: name of the model, for messages.
        model: bytes of the ONNX file.
        inputs: the model's inputs; the profiles set the sizes that may vary.
        spec: options of the build, which must have passed `check`.
        timing_cache: file of kernel times to start from and to extend.

    Raises:
        BackendError: TensorRT is not installed or refuses the graph or the options.
        ContextLostError: CUDA failed so that the process must be restarted.
    """
    cancelled = Event()
    title = f"building {name} for {', '.join(spec.targets)}"
    context = _caller_context()

    def build() -> bytes:
        with context:
            return _build(name, model, inputs, spec, timing_cache, cancelled)

    return _while_spinning(title, build, cancelled.set)


def _caller_context() -> AbstractContextManager[None]:
    """Return a context manager that makes this thread's CUDA context, if any, current elsewhere."""
    try:
        return cuda.context(cuda.current_context())
    except cuda.ContextLostError:
        raise
    except BackendError:
        return nullcontext()


def _build(
    name: str,
    model: bytes,
    inputs: Sequence[TensorSpec],
    spec: BuildSpec,
    timing_cache: Path | None,
    cancelled: Event,
) -> bytes:
    flavour = FLAVOURS[spec.flavour]
    trt = flavour.trt
    log, messages = message_log(trt)
    builder = trt.Builder(log)
    # TensorRT 11 only has such networks; 10 and RTX need the flag.
    strong = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(strong)
    parser = trt.OnnxParser(network, log)
    if not parser.parse(model):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        told = "; ".join(_told(e.node_name(), e.node_operator(), e.desc()) for e in errors)
        raise BackendError(f"{flavour.title} cannot parse {name}: {told}.")
    config = builder.create_builder_config()
    for profile in spec.profiles:
        config.add_optimization_profile(optimization_profile(builder, inputs, profile))
    _configure(trt, config, spec)
    monitor = _monitor(trt, cancelled)
    config.progress_monitor = monitor
    if timing_cache:
        _start_from(config, timing_cache)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        reason = "; ".join(messages.errors) or "it gives no reason"
        raise BackendError(
            f"{flavour.title} cannot build {name} for {', '.join(spec.targets)}: {reason}; "
            "try other profiles or options."
        )
    for message in messages.warnings:
        logger.warning("%s: %s", flavour.title, message)
    if timing_cache and (times := config.get_timing_cache()):
        with replaced(timing_cache) as temporary:
            temporary.write_bytes(bytes(times.serialize()))
    return bytes(engine)


def optimization_profile(
    builder: Builder, inputs: Sequence[TensorSpec], profile: ShapeProfile
) -> IOptimizationProfile:
    """Return TensorRT's form of a profile, with the shapes of every input."""
    shapes = builder.create_optimization_profile()
    for tensor in inputs:
        minimum, optimum, maximum = (
            tensor.sized(*shape) for shape in (profile.minimum, profile.optimum, profile.maximum)
        )
        shapes.set_shape(tensor.name, minimum, optimum, maximum)
    return shapes


def _start_from(config: IBuilderConfig, timing_cache: Path) -> None:
    """Give a build the kernel times of earlier ones; ignore a file that does not fit."""
    known = timing_cache.read_bytes() if timing_cache.exists() else b""
    times = config.create_timing_cache(known)
    if not (times and config.set_timing_cache(times, ignore_mismatch=False)):
        logger.warning(
            "%s does not fit this GPU or is damaged; kernels are timed again.", timing_cache
        )
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def _configure(trt: TensorRT, config: IBuilderConfig, spec: BuildSpec) -> None:
    flavour = FLAVOURS[spec.flavour]
    if flavour.targets:
        config.num_compute_capabilities = len(spec.targets)
        for index, target in enumerate(spec.targets):
            config.set_compute_capability(
                getattr(trt.ComputeCapability, target.upper(), trt.ComputeCapability.CURRENT),
                index,
            )
    if flavour.compiles_at_run:
        # Without it, inference might allocate, which a CUDA graph cannot capture.
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    if spec.hardware_compatible:
        level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
        config.hardware_compatibility_level = level
    if spec.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if spec.strip_weights:
        config.set_flag(trt.BuilderFlag.STRIP_PLAN)
    if spec.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, spec.workspace)
    # TF32 would shorten the mantissas of fp32 graphs to 10 bits.
    config.clear_flag(trt.BuilderFlag.TF32)
    config.builder_optimization_level = spec.optimization_level
    # `hfdn inspect` would otherwise only get the names of layers.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED


class Messages:
    """Messages of TensorRT, each once."""

    def __init__(self) -> None:
        self.errors: dict[str, None] = {}
        self.warnings: dict[str, None] = {}


def message_log(trt: TensorRT) -> tuple[ILogger, Messages]:
    """Return a logger for TensorRT, and the messages that it collects."""
    messages = Messages()

    class Log(trt.ILogger):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                messages.errors[message] = None
            elif severity == trt.ILogger.WARNING:
                messages.warnings[message] = None

    return Log(), messages


def _monitor(trt: TensorRT, cancelled: Event) -> Any:
    """Return a progress monitor that ends a build soon after `cancelled` is set."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            """Not of interest."""

        def step_complete(self, phase_name: str, step: int) -> bool:
            return not cancelled.is_set()

        def phase_finish(self, phase_name: str) -> None:
            """Not of interest."""

    return Monitor()


def _told(node: str, operator: str, reason: str) -> str:
    return f"node {node!r} ({operator}): {reason}" if node else reason


def _while_spinning(title: str, work: Callable[[], T], cancel: Callable[[], None]) -> T:
    """Run `work` in a thread; on KeyboardInterrupt, call `cancel` and wait for the end."""
    start = time.monotonic()
    with ThreadPoolExecutor(1) as worker:
        try:
            with deferred():  # the pool does not wait for a thread whose start was interrupted
                future = worker.submit(work)
            while True:
                try:
                    return future.result(timeout=0.1)
                except NotYet:
                    if future.done():  # raised by the work itself
                        raise
                if sys.stderr.isatty():
                    elapsed = time.monotonic() - start
                    print(f"\r{title}: {elapsed:.0f} s ", end="", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            cancel()
            raise
        finally:
            if sys.stderr.isatty():
                print("\r\033[K", end="", file=sys.stderr, flush=True)
