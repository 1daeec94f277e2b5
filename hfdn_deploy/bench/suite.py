"""Latency, quality and memory of a model's precisions on the backends of this machine."""

import logging
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfdn_deploy.backends import BACKENDS, Backend
from hfdn_deploy.bench.environment import environment_facts, gpu_state
from hfdn_deploy.bench.quality import PEAK, psnr, to_levels
from hfdn_deploy.bench.roofline import MACS, products
from hfdn_deploy.bench.samples import ImagePair, make_pair
from hfdn_deploy.bench.timing import Measurement, measure
from hfdn_deploy.bundle import GRAPHS, MANIFEST, Bundle, Manifest
from hfdn_deploy.engines import ENGINE_SUFFIXES, named_bundle, read_sidecar
from hfdn_deploy.errors import BackendError, GateError, InputError
from hfdn_deploy.upscaler import Upscaler

logger = logging.getLogger(__name__)

SCHEMA = 1
ON_GPU = tuple(spec.name for spec in BACKENDS.values() if spec.device == "gpu")
# The outputs that `Manifest.macs_true` is for.
PIXELS = 1280 * 720


@dataclass(frozen=True)
class Candidate:
    """One row: a model in one precision on one backend."""

    model: str
    """As the user named it."""
    path: str
    """Of the bundle or engine."""
    backend: str
    precision: str
    allow_ungated: bool = False
    trust: bool = False

    def load(self) -> Upscaler:
        """Open it; see `Upscaler.load`."""
        engine = Path(self.path).suffix in ENGINE_SUFFIXES
        precision = None if engine else self.precision
        return Upscaler.load(
            self.path,
            self.backend,
            precision,
            allow_ungated=self.allow_ungated,
            trust=self.trust,
        )


@dataclass(frozen=True)
class BenchRow:
    """What was measured of a case at one size."""

    model: str
    backend: str
    precision: str
    size: tuple[int, int]
    """Width and height of the input."""
    choice: str
    inference: tuple[float, ...] | None
    """Seconds of each run of the engine, input and output where it computes.

    On a GPU by CUDA events; None where the engine has no such clock.
    """
    with_transfers: tuple[float, ...] | None
    """Seconds of each run from and to the host's memory; None on a CPU, which has no transfers."""
    end_to_end: tuple[float, ...]
    """Seconds of each run from RGB array to RGB array."""
    psnr_cost_db: float
    """PSNR against the original that is lost to fp32 in ONNX Runtime; negative if gained."""
    peak_bytes: int | None
    """Largest resident size of a process that does nothing else, loading included."""
    macs: int
    """True multiply-accumulates of one run."""

    @property
    def engine(self) -> Measurement:
        """The engine's own time: inference only, or with transfers where that is not known."""
        return Measurement(self.inference or self.with_transfers or ())

    @property
    def key(self) -> str:
        """What the row of another run must share to be compared with this one."""
        width, height = self.size
        return f"{self.model}, {self.backend}, {self.precision}, {width}×{height}"


@dataclass(frozen=True)
class BenchResult:
    """One run of the benchmark."""

    schema: int
    environment: dict[str, Any]
    gpu_after: dict[str, Any] | None
    limits: dict[str, tuple[float, ...]]
    """Seconds of each large matrix product, by "PRECISION ENGINE", taken in the same rounds."""
    macs_of_product: int
    rows: tuple[BenchRow, ...]

    def limit(self, precision: str) -> tuple[str, float] | None:
        """The engine with the fastest product of a precision, and its MACs a second."""
        rates = {
            name.split()[1]: self.macs_of_product / Measurement(tuple(samples)).percentile(50)
            for name, samples in self.limits.items()
            if name.split()[0] == precision
        }
        return max(rates.items(), key=lambda item: item[1]) if rates else None

    def to_json(self) -> dict[str, Any]:
        """All of it, every sample included."""
        return asdict(self)


def plan(
    models: Sequence[str],
    backends: Sequence[str],
    precisions: Sequence[str],
    allow_ungated: bool = False,
    trust: bool = False,
) -> list[Candidate]:
    """The rows to measure. An engine and an ONNX file of a bundle have one precision.

    Args:
        models: bundles, ONNX files of bundles, and engines.
        backends, precisions: of bundles.
        allow_ungated, trust: see `Upscaler.load`.

    Raises:
        InputError: a model is no bundle, engine or ONNX file of a bundle.
    """
    cases = []
    for name in models:
        path = Path(name)
        if path.suffix.lower() in ENGINE_SUFFIXES:
            cases.append(
                Candidate(
                    name, name, "tensorrt", read_sidecar(path).precision, allow_ungated, trust
                )
            )
            continue
        wanted = list(precisions)
        if path.suffix.lower() == ".onnx":
            if not (path.parent / MANIFEST).exists():
                raise InputError(f"{name} is no file of a bundle; export one, or name a bundle.")
            wanted = [p for p, graphs in GRAPHS.items() if path.stem in graphs]
            path = path.parent
        else:
            path = named_bundle(name).path
        cases += [
            Candidate(name, str(path), b, p, allow_ungated, trust) for p in wanted for b in backends
        ]
    return cases


def run(
    cases: Sequence[Candidate],
    sizes: Sequence[tuple[int, int]],
    photograph: NDArray[np.uint8],
    rounds: int,
    seconds: float,
) -> BenchResult:
    """Measure every case at every size; the cases of a size take turns with the products.

    Raises:
        HFDNError: a case cannot be loaded or run.
    """
    facts = environment_facts()
    found: list[BenchRow] = []
    limits: dict[str, list[float]] = {}
    precisions = dict.fromkeys(case.precision for case in cases if case.backend not in ON_GPU)
    runs = {f"{p} {engine}": f for p in precisions for engine, f in products(p).items()}
    for size in sizes:
        peaks = [_peak(case, size, photograph) for case in cases]
        with ExitStack() as stack:
            opened = [stack.enter_context(case.load()) for case in cases]
            pictures = [make_pair(photograph, size, up.scale) for up in opened]
            candidates: dict[str, Callable[[], object]] = dict(runs)
            clocked: list[list[float]] = [[] for _ in cases]
            for i, (up, picture) in enumerate(zip(opened, pictures, strict=True)):
                lr = np.ascontiguousarray(picture.luma[None, None])
                candidates[f"engine {i}"] = partial(_run_engine, up.backend, lr, clocked[i])
                candidates[f"end to end {i}"] = partial(up, picture.image)
            times = measure(candidates, rounds, seconds)
            costs = _costs(cases, opened, pictures)
        for name in runs:
            limits.setdefault(name, []).extend(times[name].samples)
        for i, case in enumerate(cases):
            engine = times[f"engine {i}"].samples
            on_gpu = case.backend in ON_GPU
            outputs = opened[i].scale ** 2 * math.prod(size)
            row = BenchRow(
                model=case.model,
                backend=case.backend,
                precision=case.precision,
                size=size,
                choice=opened[i].choice,
                inference=tuple(clocked[i][-len(engine) :]) or None if on_gpu else engine,
                with_transfers=engine if on_gpu else None,
                end_to_end=times[f"end to end {i}"].samples,
                psnr_cost_db=costs[i],
                peak_bytes=peaks[i],
                macs=round(_manifest(case).macs_true * outputs / PIXELS),
            )
            found.append(row)
    kept = {name: tuple(values) for name, values in limits.items()}
    return BenchResult(SCHEMA, facts, gpu_state(), kept, MACS, tuple(found))


def _run_engine(backend: Backend, lr: NDArray[np.float32], clocked: list[float]) -> None:
    """Run an engine once, and add what its own clock says, if it has one."""
    backend.run(lr)
    if (seconds := backend.seconds()) is not None:
        clocked.append(seconds)


def _bundle(case: Candidate) -> Bundle:
    path = Path(case.path)
    engine = path.suffix in ENGINE_SUFFIXES
    return named_bundle(read_sidecar(path).bundle, allow_ungated=True) if engine else Bundle(path)


def _manifest(case: Candidate) -> Manifest:
    return _bundle(case).manifest


def _costs(
    cases: Sequence[Candidate], opened: Sequence[Upscaler], pictures: Sequence[ImagePair]
) -> list[float]:
    """What each row loses in PSNR to fp32 in ONNX Runtime."""
    references: dict[Path, float] = {}
    costs = []
    for case, up, picture in zip(cases, opened, pictures, strict=True):
        path = _bundle(case).path
        if path not in references:
            with Upscaler.load(path, "onnxruntime", "fp32", allow_ungated=True) as reference:
                references[path] = _psnr(reference, picture)
        costs.append(references[path] - _psnr(up, picture))
    return costs


def _psnr(up: Upscaler, picture: ImagePair) -> float:
    return psnr(picture.original, to_levels(up.upscale_luma(picture.luma) * PEAK), up.scale)


def _peak(case: Candidate, size: tuple[int, int], photograph: NDArray[np.uint8]) -> int | None:
    """Bytes that a process of its own takes at the most."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_peak_here, case, size, photograph).result()


def _peak_here(case: Candidate, size: tuple[int, int], photograph: NDArray[np.uint8]) -> int | None:
    """The peak resident size of this process after one upscaling; None where it is not told.

    From VmHWM, since `getrusage` counts what the parent had before as well.
    """
    with case.load() as up:
        up(make_pair(photograph, size, up.scale).image)
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return None


def skip_unavailable(cases: Sequence[Candidate]) -> list[Candidate]:
    """The cases that can be loaded here and passed their gates; why others did not is logged.

    Raises:
        BackendError: none can.
    """
    usable, reasons = [], []
    for case in cases:
        try:
            case.load().close()
            usable.append(case)
        except (BackendError, GateError) as error:
            reasons.append(f"left out {case.backend} in {case.precision}: {error}")
            logger.warning(reasons[-1])
    if not usable:
        raise BackendError(f"nothing can be measured here; {reasons[-1]}")
    return usable
