"""The per-user cache of engines, in which each is built once and known to be the user's own.

FOLDER/KEY/lock                     held during a build
FOLDER/KEY/engine/SHA256.engine     with its sidecar; both appear at once
    FOLDER/timing/                      kernel times, if the flavour measures them
    FOLDER/kernels/                     compiled kernels, if it compiles at run time
    FOLDER/openvino/                    graphs compiled by OpenVINO, see `backends.compiled`
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
    """Return whether this user built the engine with this hash, so that the cache has it.

    Raises:
        InputError: other users can write the cache.
    """
    for engine in cache_folder().glob(f"*/engine/{sha256}{SUFFIX}"):
        with suppress(OSError):
            if is_own(engine) and hashlib.sha256(engine.read_bytes()).hexdigest() == sha256:
                return True
    return False


def device_here() -> Device | None:
    """Return the current CUDA device, or None if there is none.

    Raises:
        CudaError: there is a device, but it fails.
    """
    try:
        return Device.current()
    except CudaError:
        raise
    except BackendError:
        return None


def resolve_targets(flavour: str, targets: Sequence[str]) -> tuple[str, ...]:
    """Return the compute capabilities to build for; without `targets`, that of this GPU.

    Raises:
        InputError: the flavour cannot build for a target.
        BackendError: there are no targets and no GPU, or the flavour does not support this GPU.
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
                f"{chosen.title} runs on {known}, not on {device.target} ({device.name})",
                "use backend cuda",
            )
        return (device.target,)
    known_here = {*chosen.targets, *([device.target] if device else [])}
    for target in targets:
        if target not in known_here:
            known = ", ".join(sorted(known_here)) or "the GPU here, and there is none"
            raise InputError(f"{chosen.title} cannot build for {target!r}, only for {known}.")
    return tuple(sorted(set(targets)))


def cached_engine(bundle: Bundle, precision: str, spec: BuildSpec, part: str = "whole") -> Path:
    """Return the path of a bundle's engine in the cache, after building it if it is missing.

    Args:
        bundle: the bundle with the graph.
        precision: the engine's precision.
        spec: options of the build.
        part: part of the graph, one of `hfdn_deploy.graph.PARTS`.

    Raises:
        InputError: the graph or the flavour does not allow `spec`, or the disk refuses the write.
        BundleError, GateError: the graph is missing or changed, did not pass its gates, or does
            not have this part.
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
    """Hold a lock between processes, which ends with the process at the latest."""
    lock = FileLock(path)
    try:
        make_own(path.parent)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            logger.info("waiting for another process that does the same")
            lock.acquire()
    except OSError as error:
        raise InputError(
            f"the cache {path.parent} cannot be written ({error.strerror}); set {VARIABLE} to a "
            "writable folder."
        ) from None
    try:
        yield
    finally:
        lock.release()


def _plan(
    bundle: Bundle, precision: str, spec: BuildSpec, part: str, model: bytes
) -> EngineManifest:
    """Return the sidecar of an engine with all that is known before the build."""
    entry = bundle.entry(graph_for(precision, "cuda"))
    flavour = FLAVOURS[spec.flavour]
    device = device_here()
    if spec.strip_weights and device is None:
        raise BackendError(
            f"{flavour.title} needs a GPU to strip weights, and there is none here; build on a "
            "machine with a GPU, or leave out --strip-weights."
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
    """Return the engine in a cache folder; None if it is missing, damaged or not the user's own."""
    for engine in folder.glob(f"*{SUFFIX}"):
        if not (is_own(engine) and is_own(sidecar_path(engine))):
            logger.warning("%s belongs to another user. It is built again.", engine)
            return None
        try:
            manifest = read_sidecar(engine)
            check_sidecar(engine, manifest)
            read_engine(engine, manifest)
        except EngineError as error:
            # As text, since a kept log record would keep the error's frames and the model.
            logger.warning("%s It is built again.", str(error))
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
        InputError: the output or the cache cannot be written.
    """
    beside = output.with_name(output.name + ".json")
    # Without the lock, two builds with the same output might mix their files.
    lock = _locked(cache_folder() / "copy.lock")
    with lock, replaced(beside) as sidecar, replaced(output) as copy:
        shutil.copyfile(sidecar_path(engine), sidecar)
        shutil.copyfile(engine, copy)
        # So that an engine never lies beside another engine's sidecar.
        beside.unlink(missing_ok=True)
