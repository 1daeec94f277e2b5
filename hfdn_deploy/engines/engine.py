"""Opening of engine files, with all checks that are possible before TensorRT reads them."""

import logging
from dataclasses import dataclass
from pathlib import Path

from hfdn_deploy.engines import cache
from hfdn_deploy.engines.sidecar import EngineManifest, check_sidecar, read_engine, read_sidecar
from hfdn_deploy.errors import EngineError, GateError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Engine:
    """An engine that fits this machine's library and is the user's own or trusted."""

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
        trust: also accept an engine that this user did not build. An engine is native code that
            can do anything its author wants, with the rights of the user who runs it.
        allow_ungated: also accept an engine of a graph that did not pass its gates.
        part: part of the graph that the engine must be, one of `hfdn_deploy.graph.PARTS`.

    Raises:
        EngineError: the engine or its sidecar is missing, damaged or changed; the engine is built
            for another version, platform or part; or it is not trusted.
        GateError: the graph did not pass its gates, and `allow_ungated` is false.
        BackendError: the engine's flavour of TensorRT is not installed.
    """
    manifest = read_sidecar(path)
    check_sidecar(path, manifest)
    data = read_engine(path, manifest)
    if not (trust or cache.holds(manifest.sha256)):
        raise EngineError(
            f"{path} was not built by you on this machine, and engines are native code: "
            f"{manifest.rebuild}, or allow it with --trust (trust=True) if you trust its author."
        )
    if manifest.part != part:
        raise EngineError(
            f"{path} holds the {manifest.part} part of a network, but the {part} part is needed; "
            f"name the bundle, {manifest.bundle}."
        )
    if manifest.gate_failure:
        if not allow_ungated:
            raise GateError(
                f"the graph of {path} did not pass its gates: {manifest.gate_failure}; export it "
                "again, or allow ungated graphs."
            )
        logger.warning("%s is used although its graph did not pass its gates, as allowed.", path)
    return Engine(path, manifest, data, allow_ungated)
