"""The per-user cache of engines: each is built once, whoever asks, and known to be one's own.

FOLDER/KEY/lock                     held while somebody builds
FOLDER/KEY/engine/SHA256.engine     and its sidecar; both appear at once
    FOLDER/timing/                      kernel times, where the flavour measures them
    FOLDER/kernels/                     compiled kernels, where it makes them as it runs
    FOLDER/openvino/                    graphs that OpenVINO compiled, see `backends.compiled`
"""

import hashlib
import logging
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import onnx
from filelock import FileLock, Timeout

from hfdn_deploy.atomic import remove_abandoned, replaced
from hfdn_deploy.bundle import (
    Bundle,
    TensorSpec,
    graph_for,
    name_of,
    why_failed,
)
from hfdn_deploy.cuda import CudaError, Device
from hfdn_deploy.engines.builder import build_engine
from hfdn_deploy.engines.flavour import FLAVOURS
from hfdn_deploy.engines.folders import VARIABLE, cache_folder, is_own, make_own
from hfdn_deploy.engines.sidecar import (
    SCHEMA,
    SUFFIX,
    EngineManifest,
    check_sidecar,
    read_engine,
    read_sidecar,
    sidecar_path,
    this_platform,
)
from hfdn_deploy.engines.spec import BuildSpec
from hfdn_deploy.errors import BackendError, EngineError, InputError
from hfdn_deploy.graph import part_of

logger = logging.getLogger(__name__)


def holds(sha256: str) -> bool:
    """Whether the engine with this hash was built by this user: it lies in the user's cache.

    Raises:
        InputError: there is no cache that nobody else can write.
    """
    for engine in cache_folder().glob(f"*/engine/{sha256}{SUFFIX}"):
        with suppress(OSError):
            if is_own(engine) and hashlib.sha256(engine.read_bytes()).hexdigest() == sha256:
                return True
    return False


def device_here() -> Device | None:
    """The current CUDA device, if there is one.

    Raises:
        CudaError: there is, but it fails.
    """
    try:
        return Device.current()
    except CudaError:
        raise
    except BackendError:
        return None


def resolve_targets(flavour: str, targets: Sequence[str]) -> tuple[str, ...]:
    """The compute capabilities to build for; none named means this GPU's.

    Raises:
        InputError: the flavour cannot build for one of them.
        BackendError: none is named and there is no GPU, or the flavour has none for it.
    """
    chosen = FLAVOURS[flavour]
    device = device_here()
    if not targets:
        known = ", ".join(chosen.targets)
        if device is None and chosen.targets:
            raise BackendError(f"there is no CUDA device here; name a --target: {known}.")
        device = device or Device.current()
        if chosen.targets and device.target not in chosen.targets:
            raise BackendError(
                f"{chosen.title} runs on {known}, and here is {device.target} ({device.name})",
                "ask for backend cuda",
            )
        return (device.target,)
    known_here = {*chosen.targets, *([device.target] if device else [])}
    for target in targets:
        if target not in known_here:
            known = ", ".join(sorted(known_here)) or "this GPU, and there is none"
            raise InputError(f"{chosen.title} cannot build for {target!r}, only for {known}.")
    return tuple(sorted(set(targets)))


def cached_engine(bundle: Bundle, precision: str, spec: BuildSpec, part: str = "whole") -> Path:
    """The engine of one precision of a bundle, built now unless it is in the cache.

    Args:
        bundle: has the graph.
        precision: which one.
        spec: what to build.
        part: of the graph; one of `hfdn_deploy.graph.parts.PARTS`.

    Raises:
        InputError: the graph or the flavour does not allow `spec`, or the disk refuses.
        BundleError, GateError: the graph is missing, changed, did not pass its gates, or has no
            such part.
        BackendError: the flavour is missing or cannot build the graph.
    """
    graph = graph_for(precision, "cuda")
    spec.check(bundle.entry(graph))
    model = part_of(bundle.read_model(graph), part, bundle.manifest.scale)
    plan = _plan(bundle, precision, spec, part, model)
    folder = cache_folder() / plan.sealed().checksum
    if found := _whole_engine(folder / "engine"):
        return found
    with _locked(folder / "lock"):
        if found := _whole_engine(folder / "engine"):
            return found
        remove_abandoned(folder)
        return _build_into(folder / "engine", model, plan)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that ends with the process, waiting for who has it."""
    lock = FileLock(path)
    try:
        make_own(path.parent)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            logger.info("waiting for another process, which has the same to do")
            lock.acquire()
    except OSError as error:
        raise InputError(
            f"the cache {path.parent} cannot be written ({error.strerror}); set {VARIABLE} to a "
            "folder that can."
        ) from None
    try:
        yield
    finally:
        lock.release()


def _plan(
    bundle: Bundle, precision: str, spec: BuildSpec, part: str, model: bytes
) -> EngineManifest:
    """The sidecar of an engine as far as it is known before the build."""
    entry = bundle.entry(graph_for(precision, "cuda"))
    flavour = FLAVOURS[spec.flavour]
    device = device_here()
    if spec.strip_weights and device is None:
        raise BackendError(
            f"{flavour.title} strips weights only on a machine with a GPU, and there is none here; "
            "build there, or leave out --strip-weights."
        )
    graph = onnx.load_model_from_string(model).graph
    (output,) = graph.output
    return EngineManifest(
        schema=SCHEMA,
        bundle=name_of(bundle),
        scale=bundle.manifest.scale,
        precision=precision,
        graph=entry.graph,
        part=part,
        onnx_sha256=hashlib.sha256(model).hexdigest(),
        inputs=tuple(TensorSpec.from_onnx(tensor) for tensor in graph.input),
        output=TensorSpec.from_onnx(output),
        gate_failure=why_failed(entry.parity),
        spec=spec,
        version=flavour.version or flavour.trt.__version__,
        device=device,
        platform=this_platform(),
        built="",
        build_seconds=0.0,
        bytes=0,
        sha256="",
        checksum="",
    )


def _whole_engine(folder: Path) -> Path | None:
    """The engine in a folder of the cache, if it is there, this user's own and whole."""
    for engine in folder.glob(f"*{SUFFIX}"):
        if not (is_own(engine) and is_own(sidecar_path(engine))):
            logger.warning("%s is somebody else's. It is built anew.", engine)
            return None
        try:
            manifest = read_sidecar(engine)
            check_sidecar(engine, manifest)
            read_engine(engine, manifest)
        except EngineError as error:
            # As text: a record that is kept would keep the frames of the error, and the model.
            logger.warning("%s It is built anew.", str(error))
            return None
        return engine
    return None


def _build_into(folder: Path, model: bytes, plan: EngineManifest) -> Path:
    times = None
    if plan.device and not FLAVOURS[plan.spec.flavour].compiles_at_run:
        name = re.sub(r"\W+", "-", f"{plan.version} {plan.device.name} {plan.device.driver}")
        times = cache_folder() / "timing" / f"{name}.cache"
        make_own(times.parent)
    start = time.monotonic()
    part = "" if plan.part == "whole" else f"the {plan.part} part of "
    data = build_engine(f"{part}graph {plan.graph}", model, plan.inputs, plan.spec, times)
    manifest = replace(
        plan,
        built=datetime.now(UTC).isoformat(timespec="seconds"),
        build_seconds=round(time.monotonic() - start, 3),
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    ).sealed()
    engine = folder / f"{manifest.sha256}{SUFFIX}"
    with replaced(folder) as temporary:
        temporary.mkdir(mode=0o700)
        (temporary / engine.name).write_bytes(data)
        sidecar_path(temporary / engine.name).write_text(manifest.to_json(), encoding="utf-8")
    return engine


def copy_engine(engine: Path, output: Path) -> None:
    """Copy an engine and its sidecar out of the cache.

    Raises:
        InputError: the disk refuses, or the cache.
    """
    beside = output.with_name(output.name + ".json")
    # Or two builds with one output might mix their files.
    lock = _locked(cache_folder() / "copy.lock")
    with lock, replaced(beside) as sidecar, replaced(output) as copy:
        shutil.copyfile(sidecar_path(engine), sidecar)
        shutil.copyfile(engine, copy)
        # An engine never lies beside the sidecar of another.
        beside.unlink(missing_ok=True)
