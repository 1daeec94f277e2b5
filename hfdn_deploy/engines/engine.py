"""Opening an engine's file: everything that can be checked before TensorRT sees it."""

from dataclasses import dataclass
from pathlib import Path

from hfdn_deploy.engines import cache
from hfdn_deploy.engines.sidecar import EngineManifest, check_sidecar, read_engine, read_sidecar
from hfdn_deploy.errors import EngineError

ENGINE_SUFFIXES = (".engine", ".plan")


@dataclass(frozen=True)
class Engine:
    """An engine that fits this machine's library and is the user's own, or trusted."""

    path: Path
    manifest: EngineManifest
    data: bytes


def open_engine(path: Path, trust: bool = False) -> Engine:
    """Read an engine.

    Args:
        path: the engine; its sidecar lies beside it.
        trust: also take an engine that this user did not build. An engine is native code: it
            can do whatever its author wants with the rights of who runs it.

    Raises:
        EngineError: the engine or its sidecar is missing, damaged, changed, built for another
            version or platform, or is not trusted.
        BackendError: the flavour of TensorRT that it needs is not installed.
    """
    manifest = read_sidecar(path)
    check_sidecar(path, manifest)
    data = read_engine(path, manifest)
    if not (trust or cache.holds(manifest.sha256)):
        raise EngineError(
            f"{path} was not built by you here, and an engine is native code: "
            f"{manifest.rebuild}, or allow it with --trust (trust=True) if you know its author."
        )
    return Engine(path, manifest, data)
