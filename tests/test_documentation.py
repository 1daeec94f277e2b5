"""The code blocks of README and of the site are run: python and sh as they stand."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from hfdn_deploy import Upscaler
from hfdn_deploy.bundle import pretrained, pretrained_scales
from hfdn_deploy.images import read_image, write_image
from tests.helpers.clips import noise, read_clip, write_clip
from tests.helpers.disks import names_in
from tests.helpers.paths import ROOT

PAGES = {
    str(path.relative_to(ROOT)): re.findall(r"^```(\w+)\n(.*?)^```", path.read_text(), re.M | re.S)
    for path in (
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
        *sorted((ROOT / "docs").rglob("*.md")),
    )
}

CHATTER = re.compile(r"\w+Warning|\[[WEI]:onnxruntime|\[torch.onnx\]|Traceback|^[WEI]\d{4} ", re.M)
"""Output of libraries that a user cannot act on."""


def pages_with(kind):
    return [page for page, blocks in PAGES.items() if any(found == kind for found, _ in blocks)]


def blocks_of(page, kind):
    return [text for found, text in PAGES[page] if found == kind]


@pytest.fixture
def folder(tmp_path, photo):
    """A folder as the reader has it: a checkout's content, photographs and a video."""
    for name in ("checkpoints", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "build").mkdir()
    write_image(tmp_path / "photo.png", photo)
    write_clip(tmp_path / "clip.mp4", noise(2))
    for name in ("photos/a.png", "photos/b.jpg", "more/c.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_image(tmp_path / name, photo)
    return tmp_path


def run(command, folder):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert not done.returncode, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.mark.parametrize("page", pages_with("python"))
def test_python_blocks(page, folder):
    for text in blocks_of(page, "python"):
        done = run([sys.executable, "-c", text], folder)
        assert not done.stderr
    height, width = read_image(folder / "photo.png").shape[:2]
    if any("photo_x4.png" in text for text in blocks_of(page, "python")):
        assert read_image(folder / "photo_x4.png").shape == (4 * height, 4 * width, 3)


@pytest.mark.slow
@pytest.mark.parametrize("page", pages_with("sh"))
def test_shell_blocks(page, folder):
    text = "\n".join(blocks_of(page, "sh"))
    if "g++" in text and not shutil.which("g++"):
        pytest.skip("g++ is not installed")
    done = run(["bash", "-euo", "pipefail", "-c", text], folder)
    assert not CHATTER.search(done.stdout + done.stderr)
    check = {
        "README.md": _readme_made,
        "docs/how-to/image-graph.md": _image_graph_made,
    }.get(page)
    if check:
        check(folder)


def _readme_made(folder):
    assert names_in(folder / "big") == ["a.png", "b.jpg", "c.jpg"]
    assert len(read_clip(folder / "clip_x2.mp4").frames) == 2
    assert (folder / "build" / "x2" / "manifest.json").exists()


def _image_graph_made(folder):
    image = read_image(folder / "photo.png")
    with Upscaler.load(4) as up:
        exact = up(image).astype(int)
    assert np.abs(read_image(folder / "build" / "photo_x4.png") - exact).max() <= 1
    with Upscaler.load(4, "openvino", "int8") as up:
        quantized = up(image).astype(int)
    ppm = (folder / "build" / "photo_cpp.ppm").read_bytes().split(b"\n", 3)[3]
    compiled = np.frombuffer(ppm, np.uint8).reshape(quantized.shape).astype(int)
    # Luma that differs in its last bit is quantised otherwise; the runtime may have bf16 around it.
    assert np.sqrt(np.mean((compiled - quantized) ** 2)) < 0.7
    assert np.abs(compiled - exact).max() <= 16


def test_make_targets_exist():
    text = "".join(text for page in PAGES for text in blocks_of(page, "console"))
    targets = set(re.findall(r"^make (\w[\w-]*)", text, re.M))
    assert {"demo", "test", "fuzz", "bench"} <= targets
    run(["make", "--dry-run", *targets], ROOT)


def test_readme_is_short_and_run():
    assert all("README.md" in pages_with(kind) for kind in ("python", "sh"))
    assert len((ROOT / "README.md").read_text().split()) <= 1200


@pytest.mark.parametrize("scale", pretrained_scales())
def test_shipped_manifests_hold_to_the_published_schema(scale):
    pytest.importorskip("mkdocs", exc_type=ModuleNotFoundError)
    from docs.hooks import manifest_schema

    schema = manifest_schema()
    manifest = json.loads((pretrained(scale).path / "manifest.json").read_text())
    jsonschema.validate(manifest, schema)
    manifest["files"][0]["sha256"] = 1
    with pytest.raises(jsonschema.ValidationError, match="not of type 'string'"):
        jsonschema.validate(manifest, schema)
