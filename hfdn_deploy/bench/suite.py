"""Latency, quality and memory of a model's precisions on the backends of this machine."""

import logging
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfdn_deploy.backends import Backend
from hfdn_deploy.bench.environment import environment_facts, gpu_state
from hfdn_deploy.bench.quality import PEAK, psnr, to_levels
from hfdn_deploy.bench.results import ON_GPU, SCHEMA, BenchResult, BenchRow
from hfdn_deploy.bench.roofline import MACS, products
from hfdn_deploy.bench.samples import ImagePair, make_pair
from hfdn_deploy.bench.timing import measure, prepare
from hfdn_deploy.bundle import GRAPHS, MANIFEST, Bundle, Manifest, named_bundle
from hfdn_deploy.engines import ENGINE_SUFFIXES, read_sidecar
from hfdn_deploy.errors import BackendError, GateError, InputError
from hfdn_deploy.machine import free_memory
from hfdn_deploy.options import ModelOptions
from hfdn_deploy.upscaler import Upscaler

logger = logging.getLogger(__name__)

# Pixels of the output that `Manifest.macs_true` refers to.
PIXELS = 1280 * 720
# Bytes per pixel of the original in `make_pair`: three channels, one of them as floats.
_PHOTOGRAPH = 24
# Limit of PSNR, which would be infinite for equal images.
_EQUAL_DB = 100.0


@dataclass(frozen=True)
class Candidate:
    """A model in one precision on one backend."""

    model: str
    """The name that the user gave."""
    options: ModelOptions
    """With the path of the bundle or engine, its backend and precision."""

    @property
    def path(self) -> Path:
        """The path of the bundle or engine."""
        return Path(str(self.options.model))

    @property
    def backend(self) -> str:
        """The name of the backend, from `hfdn_deploy.backends.NAMES`."""
        return self.options.backend

    @property
    def precision(self) -> str:
        """The precision of the run."""
        return self.options.precision or "fp32"

    def load(self) -> Upscaler:
        """Open the model; see `Upscaler.open`."""
        return Upscaler.open(self.options)


def plan(
    models: Sequence[str],
    backends: Sequence[str],
    precisions: Sequence[str],
    options: ModelOptions | None = None,
) -> list[Candidate]:
    """Return the candidates. An engine and an ONNX file of a bundle have one precision.

    Args:
        models: bundles, ONNX files of bundles, and engines.
        backends, precisions: for bundles.
        options: how to open each model; by default as `Upscaler.load` does.

    Raises:
        InputError: a model is not a bundle, engine or ONNX file of a bundle.
    """
    options = options or ModelOptions()
    cases = []
    for name in models:
        path, wanted, able = Path(name), list(precisions), list(backends)
        if path.suffix.lower() in ENGINE_SUFFIXES:
            wanted, able = [read_sidecar(path).precision], ["tensorrt"]
        elif path.suffix.lower() == ".onnx":
            if not (path.parent / MANIFEST).exists():
                raise InputError(f"{name} is not in a bundle; export a bundle, or name a bundle.")
            wanted = [p for p, graphs in GRAPHS.items() if path.stem in graphs]
            path = path.parent
        else:
            path = named_bundle(name).path
        cases += [
            Candidate(name, replace(options, model=str(path), backend=b, precision=p))
            for p in wanted
            for b in able
        ]
    return cases


def run(
    cases: Sequence[Candidate],
    sizes: Sequence[tuple[int, int]],
    photograph: NDArray[np.uint8],
    rounds: int,
    seconds: float,
) -> BenchResult:
    """Measure every candidate at every size, in turns with each other and the matrix products.

    Raises:
        HFDNError: a candidate cannot be loaded or run.
    """
    facts = environment_facts() | {"options": _run_options(cases)}
    found: list[BenchRow] = []
    limits: dict[str, list[float]] = {}
    precisions = dict.fromkeys(case.precision for case in cases if case.backend not in ON_GPU)
    runs = {f"{p} {name}": f for p in precisions for name, f in products(p).items()}
    for size in sizes:
        # On a GPU, the memory of the device would count instead.
        peaks = [None if c.backend in ON_GPU else _peak(c, size, photograph) for c in cases]
        with ExitStack() as stack:
            opened = [stack.enter_context(case.load()) for case in cases]
            pictures = [make_pair(photograph, size, up.scale) for up in opened]
            candidates: dict[str, Callable[[], object]] = dict(runs)
            clocked: list[list[float]] = [[] for _ in cases]
            for i, (up, picture) in enumerate(zip(opened, pictures, strict=True)):
                prepare(up, picture.image.shape)
                lr = np.ascontiguousarray(picture.luma[None, None])
                candidates[f"backend {i}"] = partial(_run_backend, up.backend, lr, clocked[i])
                candidates[f"end to end {i}"] = partial(up, picture.image)
            times = measure(candidates, rounds, seconds)
            costs = _costs(cases, opened, pictures)
        for name in runs:
            limits.setdefault(name, []).extend(times[name].samples)
        for i, case in enumerate(cases):
            alone = times[f"backend {i}"].samples
            on_gpu = case.backend in ON_GPU
            outputs = opened[i].scale ** 2 * math.prod(size)
            row = BenchRow(
                model=case.model,
                backend=case.backend,
                precision=case.precision,
                size=size,
                choice=opened[i].choice,
                inference=tuple(clocked[i][-len(alone) :]) or None if on_gpu else alone,
                with_transfers=alone if on_gpu else None,
                end_to_end=times[f"end to end {i}"].samples,
                psnr_cost_db=costs[i],
                peak_bytes=peaks[i],
                macs=round(_manifest(case).macs_true * outputs / PIXELS),
            )
            found.append(row)
    kept = {name: tuple(values) for name, values in limits.items()}
    return BenchResult(SCHEMA, facts, gpu_state(), kept, MACS, tuple(found))


def _run_options(cases: Sequence[Candidate]) -> dict[str, Any]:
    """Return the common options that differ from the defaults and change the cost of a run."""
    names = ("ensemble", "tile", "max_memory")
    found = {name: getattr(cases[0].options, name) for name in names}
    return {name: value for name, value in found.items() if value != getattr(ModelOptions, name)}


def _run_backend(backend: Backend, lr: NDArray[np.float32], clocked: list[float]) -> None:
    """Run a backend once, and append the time of its own clock, if it has one."""
    backend.run(lr)
    if (seconds := backend.seconds()) is not None:
        clocked.append(seconds)


def _bundle(case: Candidate) -> Bundle:
    if case.path.suffix.lower() not in ENGINE_SUFFIXES:
        return Bundle(case.path)
    return named_bundle(read_sidecar(case.path).bundle, allow_ungated=True)


def _manifest(case: Candidate) -> Manifest:
    return _bundle(case).manifest


def _costs(
    cases: Sequence[Candidate], opened: Sequence[Upscaler], pictures: Sequence[ImagePair]
) -> list[float]:
    """Return the loss in PSNR of each candidate compared with fp32 in ONNX Runtime."""
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
    sr = to_levels(up.upscale_luma(picture.luma) * PEAK)
    return min(psnr(picture.original, sr, up.scale), _EQUAL_DB)


def _peak(case: Candidate, size: tuple[int, int], photograph: NDArray[np.uint8]) -> int | None:
    """Return the peak memory in bytes of a separate process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_peak_here, case, size, photograph).result()


def _peak_here(case: Candidate, size: tuple[int, int], photograph: NDArray[np.uint8]) -> int | None:
    """Return the peak resident size of this process after one run; None if not reported.

    From VmHWM, because `getrusage` includes memory of the parent.
    """
    with case.load() as up:
        up(make_pair(photograph, size, up.scale).image)
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return None


def _check_fits(up: Upscaler, size: tuple[int, int]) -> None:
    """Refuse an input that is too small to measure, or that does not fit into memory whole.

    Raises:
        InputError: the size is too small, or needs more memory than is free.
    """
    width, height = size
    if min(size) <= 2:
        reason = f"an input of {width}×{height} is too small for PSNR, which leaves out a border"
        raise InputError(reason, "choose a --size of 3x3 or more")
    network = up.backend.tiling.memory or 0 if up.backend.tiling else 0
    need = width * height * max(network, _PHOTOGRAPH * up.scale**2)
    if need > (free := free_memory()):
        raise InputError(
            f"{up.backend.name} needs {need / 2**30:,.1f} GiB for an input of "
            f"{width}×{height}, but only {free / 2**30:.1f} GiB are free",
            "choose a smaller --size",
        )


def skip_unavailable(
    cases: Sequence[Candidate], sizes: Sequence[tuple[int, int]] = ()
) -> list[Candidate]:
    """Return the candidates that load here and passed their gates; log why others are left out.

    Raises:
        BackendError: no candidate can be measured.
        InputError: a size is too small, or needs more memory than is free.
    """
    usable, reasons = [], []
    for case in cases:
        try:
            with case.load() as up:
                for size in sizes:
                    _check_fits(up, size)
            usable.append(case)
        except (BackendError, GateError) as error:
            reasons.append(f"left out {case.backend} in {case.precision}: {error}")
    for reason in reasons if usable else reasons[:-1]:
        logger.warning(reason)
    if not usable:
        raise BackendError(f"nothing can be measured here; {reasons[-1]}")
    return usable
