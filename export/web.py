"""Export of a bundle to a static page, on which the browser itself upscales images.

The page is that of the service with another script: a worker runs onnxruntime-web, which npm
fetches.
"""

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
from onnx import helper

from export.image import make_image_graph
from hfdn_deploy.atomic import replaced
from hfdn_deploy.bundle import Bundle, graph_for
from hfdn_deploy.errors import BackendError, InputError, first_line
from hfdn_deploy.graph import PixelFormat, pooled_tensor, statistics_graph, tile_graph

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""Hash of the package's archive, in npm's notation."""
# Files that a browser loads for each backend.
_RUNTIMES = {
    "wasm": ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"),
    "webgpu": ("ort.webgpu.bundle.min.mjs", "ort-wasm-simd-threaded.asyncify.wasm"),
}
# The archive has no licences; the Python package is built from the same sources.
_LICENSES = ("LICENSE", "ThirdPartyNotices.txt")
# WebGPU has no operators for INT8.
_BACKENDS = {"fp32": ["webgpu", "wasm"], "fp16": ["webgpu", "wasm"], "int8": ["wasm"]}
TILE = 128
"""Side of a tile without its halo, in low-resolution pixels."""
_FACTS, _RUNTIME, _STATISTICS, _TILE = "model.json", "onnxruntime", "statistics.onnx", "tile.onnx"
_SHARED = ("index.html", "page.css", "common.js", "icon.svg")
_OWN = ("page.js", "worker.js", "tiles.js")


def write_page(bundle: Bundle, output: Path, precision: str = "fp32") -> None:
    """Write a folder that any web server can serve.

    Args:
        bundle: the bundle of the network.
        output: the folder; an older page there is replaced.
        precision: one of the bundle's precisions.

    Raises:
        InputError: `output` exists and is not such a page, or cannot be written.
        BundleError, GateError: see `make_image_graph`.
        BackendError: npm is missing or fails, or the package is not the expected one.
    """
    _refuse_to_replace_other_things(output)
    with replaced(output) as temporary, TemporaryDirectory() as folder:
        _write_page(bundle, temporary, precision, _fetched(folder))


def _write_page(bundle: Bundle, page: Path, precision: str, runtime: Path) -> None:
    graph, scale = graph_for(precision, "cpu"), bundle.manifest.scale
    model, _ = make_image_graph(bundle, graph, PixelFormat(layout="nchw"))
    pooled = pooled_tensor(model)
    graphs = {_TILE: tile_graph(model, pooled) if pooled else model}
    if pooled:
        graphs[_STATISTICS] = statistics_graph(model, pooled)
    facts = {
        "scale": scale,
        "precision": precision,
        "halo": bundle.entry(graph).halo,
        "pools": pooled is not None,
        "tile": TILE,
        "backends": _BACKENDS[precision],
    }
    page.mkdir()
    _copy_runtime(runtime, page / _RUNTIME, _BACKENDS[precision])
    _copy_page(page)
    for name, part in graphs.items():
        helper.set_model_props(part, {p.key: p.value for p in model.metadata_props})
        onnx.save(part, page / name)
    (page / _FACTS).write_text(json.dumps(facts), encoding="utf-8")


def _refuse_to_replace_other_things(output: Path) -> None:
    """Raise InputError if `output` exists and is anything but a page of this command."""
    if not output.exists():
        return
    known = {_FACTS, _RUNTIME, _STATISTICS, _TILE, *_SHARED, *_OWN}
    present = {path.name for path in output.iterdir()} if output.is_dir() else {output.name}
    if present and (not present <= known or not _is_page(output)):
        raise InputError(
            f"{output} exists and is not a page of this command; name another directory."
        )


def _is_page(folder: Path) -> bool:
    """Return whether this command wrote a folder."""
    try:
        return "backends" in json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def _copy_page(folder: Path) -> None:
    shared, own = files("hfdn_deploy.service") / "page", Path(__file__).with_name("page")
    for source, names in ((shared, _SHARED), (own, _OWN)):
        for name in names:
            (folder / name).write_bytes((source / name).read_bytes())


def _copy_runtime(package: Path, folder: Path, backends: list[str]) -> None:
    """Copy the files that browsers load, and the licences, into a new folder."""
    folder.mkdir()
    with tarfile.open(package) as archive:
        for name in (name for backend in backends for name in _RUNTIMES[backend]):
            data = archive.extractfile(f"package/dist/{name}")
            assert data
            # Many servers do not know that .mjs is JavaScript, and browsers then refuse it.
            with (folder / name.replace(".mjs", ".js")).open("wb") as file:
                shutil.copyfileobj(data, file)
    for name in _LICENSES:
        (folder / name).write_bytes((files("onnxruntime") / name).read_bytes())


def _fetched(folder: str) -> Path:
    """Let npm fetch the package's archive into a folder, and return its path.

    Raises:
        BackendError: see `write_page`.
    """
    package = f"{PACKAGE}@{VERSION}"
    npm = shutil.which("npm")
    if npm is None:
        raise BackendError(
            "npm, which fetches onnxruntime-web, is not installed", "install Node.js"
        )
    command = [npm, "pack", package, "--ignore-scripts", "--prefer-offline", "--loglevel=error"]
    ran = subprocess.run(
        [*command, "--pack-destination", folder], cwd=folder, capture_output=True, text=True,
        errors="replace", stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    archive = Path(folder, f"{PACKAGE}-{VERSION}.tgz")
    if ran.returncode or not archive.is_file():
        said = first_line(RuntimeError(ran.stderr)) or f"exit code {ran.returncode}"
        raise BackendError(f"npm cannot fetch {package} ({said})", "check npm's registry")
    digest = hashlib.sha512(archive.read_bytes()).digest()
    if base64.b64encode(digest).decode() != SHA512:
        raise BackendError(
            f"{package} from npm's registry is not the expected package (its SHA-512 differs)",
            "check the registry, or clear npm's cache",
        )
    return archive
