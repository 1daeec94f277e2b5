"""README's examples: python and sh blocks are run as they are, make targets as a dry run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hfdn_deploy import Upscaler
from hfdn_deploy.images import read_image, write_image
from tests.helpers.clips import noise, read_clip, write_clip
from tests.helpers.disks import names_in
from tests.helpers.paths import ROOT

BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)


@pytest.fixture
def folder(tmp_path, photo):
    """Return a folder like that of a reader of README: checkpoints, photographs and a video."""
    (tmp_path / "checkpoints").symlink_to(ROOT / "checkpoints")
    write_image(tmp_path / "photo.png", photo)
    write_clip(tmp_path / "clip.mp4", noise(2))
    for name in ("photos/a.png", "photos/b.jpg", "more/c.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_image(tmp_path / name, photo)
    return tmp_path


def run(command, folder):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, cwd=folder, env=environment, check=True)


def test_python_blocks(folder):
    blocks = [text for kind, text in BLOCKS if kind == "python"]
    assert blocks
    for text in blocks:
        run([sys.executable, "-c", text], folder)
    height, width = read_image(folder / "photo.png").shape[:2]
    assert read_image(folder / "photo_x4.png").shape == (4 * height, 4 * width, 3)


@pytest.mark.slow
def test_shell_blocks(folder):
    blocks = [text for kind, text in BLOCKS if kind == "sh"]
    assert len(blocks) >= 3
    for text in blocks:
        run(["bash", "-euo", "pipefail", "-c", text], folder)
    assert names_in(folder / "big") == ["a.png", "b.jpg", "c.jpg"]
    assert len(read_clip(folder / "clip_x2.mp4").frames) == 2
    assert (folder / "build" / "x4" / "manifest.json").exists()
    with Upscaler.load(4) as up:
        expected = up(read_image(folder / "photo.png")).astype(int)
    assert np.abs(read_image(folder / "build" / "photo_x4.png") - expected).max() <= 1


def test_make_targets_exist():
    text = "".join(text for kind, text in BLOCKS if kind == "console")
    targets = re.findall(r"^make (\w+)", text, re.M)
    assert {"demo", "test", "fuzz", "bench"} <= set(targets)
    run(["make", "--dry-run", *targets], ROOT)
