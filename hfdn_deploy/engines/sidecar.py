"""The sidecar of an engine, `x.engine.json`: its origin, its library and its targets.

Sidecars allow all checks that are possible before loading an engine, which is native code.
"""

import hashlib
import json
import os
import platform
import re
import shlex
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from hfdn_deploy.bundle import GRAPHS, TensorSpec, read_json
from hfdn_deploy.cuda import Device
from hfdn_deploy.engines.flavour import FLAVOURS
from hfdn_deploy.engines.spec import BuildSpec
from hfdn_deploy.errors import BackendError, EngineError
from hfdn_deploy.graph import PARTS

SCHEMA = 2
SUFFIX = ".engine"

# Numbers with NVIDIA's suffixes: 10.14.1.48.post1, 10.0.0b6.
_VERSION = re.compile(r"(\d{1,9}(?:\.\d{1,9})+)((?:a|b|rc)\d{1,9})?(?:\.post(\d{1,9}))?", re.ASCII)


@dataclass(frozen=True)
class EngineManifest:
    """Contents of the sidecar `x.engine.json` of `x.engine`."""

    schema: int
    bundle: str
    """Path of the bundle, or a name such as "x4" for a bundle of the package."""
    scale: int
    precision: str
    graph: str
    part: str
    """Part of the graph, one of `hfdn_deploy.graph.PARTS`."""
    onnx_sha256: str
    """Hash of the part's ONNX file."""
    inputs: tuple[TensorSpec, ...]
    """All inputs, the image first."""
    output: TensorSpec
    gate_failure: str | None
    """Why the graph did not pass its gates; None if it did."""
    spec: BuildSpec
    version: str
    """Version of the flavour that built the engine."""
    device: Device | None
    """Device on which it was built; None if it was built without a GPU."""
    platform: str
    """Operating system and processor architecture."""
    built: str
    """Time of the build in ISO 8601, UTC."""
    build_seconds: float
    bytes: int
    sha256: str
    """Hash of the engine."""
    checksum: str
    """SHA-256 of the rest of this sidecar."""

    def sealed(self) -> "EngineManifest":
        """Return a copy with its correct checksum."""
        return replace(self, checksum=hashlib.sha256(self._text("").encode()).hexdigest())

    def to_json(self) -> str:
        """Return the text of the sidecar."""
        return self._text(self.checksum)

    def _text(self, checksum: str) -> str:
        values = asdict(replace(self, checksum=checksum))
        return json.dumps(values, indent=1) + "\n"

    @property
    def made(self) -> str:
        """Library, version and targets of the build, for messages."""
        title = FLAVOURS[self.spec.flavour].title
        return f"built by {title} {self.version} for {', '.join(self.spec.targets)}"

    @property
    def rebuild(self) -> str:
        """Advice on how to build it again, which quotes nothing from an edited sidecar."""
        if self.sealed() != self:
            return "build it again with `hfdn build`"
        if self.part != "whole":
            return "delete it, and it is built again when it is needed"
        words = ["hfdn", "build", self.bundle, "--precision", self.precision, *self.spec.words()]
        return f"run `{shlex.join(words)} -o ENGINE`"


def sidecar_path(engine: Path) -> Path:
    """Return the path of an engine's sidecar; for a link without one, that of its target."""
    beside = engine.with_name(engine.name + ".json")
    if engine.is_symlink() and not beside.exists():
        # Path.resolve raises RuntimeError for a link that leads to itself.
        engine = Path(os.path.realpath(engine))
    return engine.with_name(engine.name + ".json")


def this_platform() -> str:
    """Return the operating system and processor architecture in the form of sidecars."""
    return f"{platform.system()}-{platform.machine()}".lower()


def read_sidecar(engine: Path) -> EngineManifest:
    """Read the sidecar of an engine.

    Raises:
        EngineError: the sidecar is missing, damaged or of another schema.
    """
    path = sidecar_path(engine)
    try:
        return read_json(
            path, EngineManifest, SCHEMA, EngineError, "build the engine again", _check_sense
        )
    except OSError as error:
        if not engine.exists():
            raise EngineError(f"{engine} does not exist; check the path.") from None
        raise EngineError(
            f"{engine} has no sidecar: {path.name} cannot be read ({error.strerror}); copy both "
            "files, or build the engine again."
        ) from None


def _check_sense(manifest: EngineManifest) -> None:
    """Raise ValueError if a well-formed sidecar has impossible values."""
    if not _VERSION.fullmatch(manifest.version):
        raise ValueError(f"version is {manifest.version!r:.40}")
    if manifest.spec.flavour not in FLAVOURS:
        raise ValueError(f"flavour is {manifest.spec.flavour!r:.40}")
    if manifest.precision not in GRAPHS:
        raise ValueError(f"precision is {manifest.precision!r:.40}")
    if manifest.part not in PARTS:
        raise ValueError(f"part is {manifest.part!r:.40}")
    image, *others = [tensor.name for tensor in manifest.inputs] or [""]
    if not image or tuple(others) != PARTS[manifest.part]:
        raise ValueError(f"inputs are not those of part {manifest.part!r}")
    for target in manifest.spec.targets:
        if not re.fullmatch(r"sm\d{2,3}", target, re.ASCII):
            raise ValueError(f"target is {target!r:.40}")
    if not re.fullmatch(r"[\w-]{1,40}", manifest.platform, re.ASCII):
        raise ValueError(f"platform is {manifest.platform!r:.40}")


def check_sidecar(engine: Path, manifest: EngineManifest) -> None:
    """Check that an engine fits this machine's library and that its sidecar is unchanged.

    Raises:
        EngineError: the engine was built for another version or platform, or the sidecar was
            edited.
        BackendError: the flavour is not installed.
    """
    flavour = FLAVOURS[manifest.spec.flavour]
    here = flavour.version
    if here is None:
        raise BackendError(
            f"{engine} needs {flavour.title}, which is not installed: "
            f"pip install 'hfdn-deploy[{flavour.name}]'."
        )
    if manifest.version != here and not _later(manifest, here):
        raise EngineError(
            f"{engine} was {manifest.made}; this machine has {flavour.title} {here}: "
            f"{manifest.rebuild}."
        )
    if manifest.platform != this_platform():
        raise EngineError(
            f"{engine} was built on {manifest.platform}; this machine is {this_platform()}: "
            f"{manifest.rebuild}."
        )
    if manifest.sealed() != manifest:
        raise EngineError(
            f"{sidecar_path(engine)} was edited: its checksum does not match; {manifest.rebuild}."
        )


def _later(manifest: EngineManifest, here: str) -> bool:
    """Return whether `here` is a later version that may run the engine."""
    found = [_VERSION.fullmatch(version) for version in (manifest.version, here)]
    # Pre-releases are not ordered relative to their releases, so they do not count as later.
    if not manifest.spec.version_compatible or any(each is None or each[2] for each in found):
        return False
    built, now = (
        [*map(int, each[1].split(".")), int(each[3] or 0)] for each in found if each is not None
    )
    return built[0] == now[0] and built < now


def read_engine(engine: Path, manifest: EngineManifest) -> bytes:
    """Return an engine's bytes after checking its length and hash against the sidecar.

    Raises:
        EngineError: the engine is missing, truncated or changed.
    """
    try:
        size = engine.stat().st_size
        # A file of another size is not read: it may be huge, or a pipe.
        data = engine.read_bytes() if size == manifest.bytes else b""
    except OSError as error:
        raise EngineError(
            f"{engine} cannot be read ({error.strerror}); {manifest.rebuild}."
        ) from None
    if size != manifest.bytes:
        raise EngineError(
            f"{engine} has {size} of {manifest.bytes} bytes; copy it again, or {manifest.rebuild}."
        )
    if hashlib.sha256(data).hexdigest() != manifest.sha256:
        raise EngineError(
            f"{engine} is not the file that was built (its SHA-256 differs from the sidecar's); "
            f"copy it again, or {manifest.rebuild}."
        )
    return data


def check_device(engine: Path, manifest: EngineManifest, device: Device) -> None:
    """Raise EngineError unless the engine was built for this device."""
    spec = manifest.spec
    later = spec.hardware_compatible and _capability(device.target) >= 80
    if device.target in spec.targets or later:
        return
    raise EngineError(
        f"{engine} was {manifest.made}; this machine has {device.target} ({device.name}): "
        f"{manifest.rebuild}."
    )


def _capability(target: str) -> int:
    return int(target.removeprefix("sm"))
