"""Bundles of a network of two convolutions, which builds and runs quickly."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from hfdn_deploy.bundle import pretrained
from hfdn_deploy.graph import tiny_model

CHANNELS = 4


def small_model(scale: int) -> onnx.ModelProto:
    """Return a graph from `lr` to `sr` that has a mean over the image, like HFDN; halo 2."""
    rng = np.random.default_rng(scale)
    nodes = [
        helper.make_node("Conv", ["lr", "first"], ["features"], pads=[1, 1, 1, 1]),
        helper.make_node("ReduceMean", ["features", "sides"], ["mean"], keepdims=1),
        helper.make_node("Sigmoid", ["mean"], ["attention"]),
        helper.make_node("Mul", ["features", "attention"], ["attended"]),
        helper.make_node("Conv", ["attended", "last"], ["levels"], pads=[1, 1, 1, 1]),
        helper.make_node("DepthToSpace", ["levels"], ["sr"], blocksize=scale),
    ]
    return tiny_model(
        nodes,
        {"lr": (np.float32, ["batch", 1, "height", "width"])},
        {"sr": (np.float32, ["batch", 1, f"{scale}*height", f"{scale}*width"])},
        {
            "first": rng.uniform(-1, 1, (CHANNELS, 1, 3, 3)).astype(np.float32),
            "last": rng.uniform(-1, 1, (scale**2, CHANNELS, 3, 3)).astype(np.float32),
            "sides": np.array([2, 3]),
        },
    )


def write_small_bundle(folder: Path, scale: int) -> Path:
    """Write a bundle whose fp32 graph is `small_model`, and return its folder."""
    data = small_model(scale).SerializeToString()
    manifest = pretrained(scale).manifest
    (entry,) = [entry for entry in manifest.files if entry.graph == "fp32"]
    sha256 = hashlib.sha256(data).hexdigest()
    entry = replace(entry, sha256=sha256, halo=2, pooled="mean")
    folder.mkdir()
    (folder / entry.file).write_bytes(data)
    small = replace(manifest, quantization=None, files=(entry,), derived={})
    (folder / "manifest.json").write_text(small.to_json(), encoding="utf-8")
    return folder
