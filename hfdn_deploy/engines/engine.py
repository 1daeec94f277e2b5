"""Opening an engine's file: everything that can be checked before TensorRT sees it."""

import logging
from dataclasses import dataclass
from pathlib import Path

from hfdn_deploy.engines import cache
from hfdn_deploy.engines.sidecar import EngineManifest, check_sidecar, read_engine, read_sidecar
from hfdn_deploy.errors import EngineError, GateError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Engine:
    """An engine that fits this machine's library and is the user's own, or trusted."""

    path: Path
    manifest: EngineManifest
    data: bytes
    allow_ungated: bool


def open_engine(
    path: Path, trust: bool = False, allow_ungated: bool = False, part: str = "whole"
) -> Engine:
    """Read an engine.

    Args:
        path: the engine; its sidecar lies beside it.
        trust: also take an engine that this user did not build. An engine is native code: it
            can do whatever its author wants with the rights of who runs it.
        allow_ungated: also take an engine of a graph that did not pass its gates.
        part: of a graph that it must be; one of `hfdn_deploy.graph.parts.PARTS`.

    Raises:
        EngineError: the engine or its sidecar is missing, damaged, changed, built for another
            version or platform or as another part, or is not trusted.
        GateError: its graph did not pass its gates, and that is not allowed.
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
    if manifest.part != part:
        raise EngineError(
            f"{path} is the {manifest.part} part of a network where its {part} part is needed; "
            f"name the bundle, {manifest.bundle}."
        )
    if manifest.gate_failure:
        if not allow_ungated:
            raise GateError(
                f"the graph of {path} did not pass its gates: {manifest.gate_failure}; export it "
                "anew, or allow ungated graphs."
            )
        logger.warning("%s is of a graph that did not pass its gates; as allowed.", path)
    return Engine(path, manifest, data, allow_ungated)
