"""The engine's sidecar, `x.engine.json`: what it was made from, by what and for what.

Everything that can be told without loading the engine is: an engine is native code.
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

# Numbers, and what NVIDIA puts behind them: 10.14.1.48.post1, 10.0.0b6.
_VERSION = re.compile(r"(\d{1,9}(?:\.\d{1,9})+)((?:a|b|rc)\d{1,9})?(?:\.post(\d{1,9}))?", re.ASCII)


@dataclass(frozen=True)
class EngineManifest:
    """What `x.engine.json` says of `x.engine`."""

    schema: int
    bundle: str
    """Path of the bundle, or "x4" for one that comes with the package."""
    scale: int
    precision: str
    graph: str
    part: str
    """Of the graph; one of `hfdn_deploy.graph.parts.PARTS`."""
    onnx_sha256: str
    """Of the part's ONNX file."""
    inputs: tuple[TensorSpec, ...]
    """The image first."""
    output: TensorSpec
    gate_failure: str | None
    """Why the graph did not pass its gates; None if it did."""
    spec: BuildSpec
    version: str
    """Of the flavour that built it."""
    device: Device | None
    """On which it was built; None if it was built without a GPU."""
    platform: str
    """Operating system and processor architecture."""
    built: str
    """When, in ISO 8601, UTC."""
    build_seconds: float
    bytes: int
    sha256: str
    """Of the engine."""
    checksum: str
    """SHA-256 of the rest of this sidecar."""

    def sealed(self) -> "EngineManifest":
        """The same with the checksum that belongs to it."""
        return replace(self, checksum=hashlib.sha256(self._text("").encode()).hexdigest())

    def to_json(self) -> str:
        """The text of the sidecar."""
        return self._text(self.checksum)

    def _text(self, checksum: str) -> str:
        values = asdict(replace(self, checksum=checksum))
        return json.dumps(values, indent=1) + "\n"

    @property
    def made(self) -> str:
        """By what it was built and for what, for messages."""
        title = FLAVOURS[self.spec.flavour].title
        return f"built by {title} {self.version} for {', '.join(self.spec.targets)}"

    @property
    def rebuild(self) -> str:
        """What to do to have it built anew; nothing of an edited sidecar is quoted."""
        if self.sealed() != self:
            return "build it anew with `hfdn build`"
        if self.part != "whole":
            return "delete it, and it is built anew when it is needed"
        words = ["hfdn", "build", self.bundle, "--precision", self.precision, *self.spec.words()]
        return f"run `{shlex.join(words)} -o ENGINE`"


def sidecar_path(engine: Path) -> Path:
    """Where the sidecar of an engine lies; for a link without one, that of its target."""
    beside = engine.with_name(engine.name + ".json")
    if engine.is_symlink() and not beside.exists():
        # Path.resolve raises RuntimeError where a link leads to itself.
        engine = Path(os.path.realpath(engine))
    return engine.with_name(engine.name + ".json")


def this_platform() -> str:
    """Operating system and processor architecture, as sidecars have them."""
    return f"{platform.system()}-{platform.machine()}".lower()


def read_sidecar(engine: Path) -> EngineManifest:
    """The sidecar of an engine, as it was written.

    Raises:
        EngineError: it is missing, damaged, changed or of another schema.
    """
    path = sidecar_path(engine)
    try:
        return read_json(
            path, EngineManifest, SCHEMA, EngineError, "build the engine anew", _check_sense
        )
    except OSError as error:
        raise EngineError(
            f"{engine} has no sidecar: {path.name} cannot be read ({error.strerror}); copy both "
            "files, or build the engine anew."
        ) from None


def _check_sense(manifest: EngineManifest) -> None:
    """Raise ValueError where a sidecar is well-formed but cannot be true."""
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
    """Check that an engine can be meant for this machine, and its sidecar is as it was written.

    Raises:
        EngineError: it was built for another version or platform, or the sidecar was edited.
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
            f"{engine} was {manifest.made}; here is {flavour.title} {here}: {manifest.rebuild}."
        )
    if manifest.platform != this_platform():
        raise EngineError(
            f"{engine} was built on {manifest.platform}; here is {this_platform()}: "
            f"{manifest.rebuild}."
        )
    if manifest.sealed() != manifest:
        raise EngineError(
            f"{sidecar_path(engine)} was edited: its checksum does not fit; {manifest.rebuild}."
        )


def _later(manifest: EngineManifest, here: str) -> bool:
    """Whether `here` is a later version of those that the engine may be run with."""
    found = [_VERSION.fullmatch(version) for version in (manifest.version, here)]
    # What comes before a version is not told apart from it, and so is no later one.
    if not manifest.spec.version_compatible or any(each is None or each[2] for each in found):
        return False
    built, now = (
        [*map(int, each[1].split(".")), int(each[3] or 0)] for each in found if each is not None
    )
    return built[0] == now[0] and built < now


def read_engine(engine: Path, manifest: EngineManifest) -> bytes:
    """An engine's bytes, after its length and hash were held against the sidecar.

    Raises:
        EngineError: it is missing, truncated or changed.
    """
    try:
        size = engine.stat().st_size
        # Whatever else it is, it is not read: it may be huge, or never end.
        data = engine.read_bytes() if size == manifest.bytes else b""
    except OSError as error:
        raise EngineError(
            f"{engine} cannot be read ({error.strerror}); {manifest.rebuild}."
        ) from None
    if size != manifest.bytes:
        raise EngineError(
            f"{engine} has {size} of {manifest.bytes} bytes; copy it anew, or {manifest.rebuild}."
        )
    if hashlib.sha256(data).hexdigest() != manifest.sha256:
        raise EngineError(
            f"{engine} is not the file that was built (its SHA-256 differs from the sidecar's); "
            f"copy it anew, or {manifest.rebuild}."
        )
    return data


def check_device(engine: Path, manifest: EngineManifest, device: Device) -> None:
    """Raise EngineError unless an engine was built for a device."""
    spec = manifest.spec
    later = spec.hardware_compatible and _capability(device.target) >= 80
    if device.target in spec.targets or later:
        return
    raise EngineError(
        f"{engine} was {manifest.made}; here is {device.target} ({device.name}): "
        f"{manifest.rebuild}."
    )


def _capability(target: str) -> int:
    return int(target.removeprefix("sm"))
