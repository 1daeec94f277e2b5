"""PSNR and SSIM on luma by the protocol of the published tables (`hfdn_deploy.quality`)."""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from hfdn_deploy.imresize import imresize
from hfdn_deploy.quality import (
    PEAK,
    crop_to_multiple,
    degrade,
    load_luma_set,
    psnr,
    ssim,
    to_levels,
)
from hfdn_deploy.upscaler import Upscaler

Luma = NDArray[np.uint8]
Method = Callable[[NDArray[np.float64]], NDArray[np.floating]]


@dataclass(frozen=True)
class Score:
    """One method on one set at one scale."""

    set: str
    scale: int
    method: str
    psnr: float
    """Mean over the images, in dB."""
    ssim: float
    images: dict[str, tuple[float, float]]
    """PSNR and SSIM by image name."""


def evaluate(name: str, images: dict[str, Luma], scale: int, method: str, run: Method) -> Score:
    """Degrade each original, upscale it with `run` and compare.

    Args:
        images: originals by name, (H, W) luma 0..255.
        run: low-resolution luma (H, W) on the 8-bit scale to (scale·H, scale·W).
    """
    scores = {}
    label = f"{name} ×{scale} {method}"
    for stem, image in tqdm(images.items(), desc=label, unit="image", disable=None, leave=False):
        hr = crop_to_multiple(image, scale)
        sr = to_levels(run(degrade(hr, scale)))
        scores[stem] = (psnr(sr, hr, scale), ssim(sr, hr, scale))
    mean_psnr, mean_ssim = np.mean(list(scores.values()), axis=0)
    return Score(name, scale, method, float(mean_psnr), float(mean_ssim), scores)


def bicubic(scale: int) -> Method:
    """MATLAB's bicubic upscaling."""
    return lambda lr: imresize(lr, scale)


def network(up: Upscaler) -> Method:
    """An upscaler's network."""
    return lambda lr: up.upscale_luma((lr / PEAK).astype(np.float32)) * PEAK


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `python -m benchmarks quality`."""
    parser.add_argument("--scale", type=int, nargs="+", default=[2, 3, 4], choices=(2, 3, 4))
    parser.add_argument("--data", type=Path, action="append", required=True, help="image folder")
    parser.add_argument("--bundle", type=Path, help="instead of the package's (give its --scale)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def main(args: argparse.Namespace) -> None:
    """Print the scores of bicubic upscaling and HFDN on every set."""
    scores = []
    for folder in args.data:
        images = load_luma_set(folder)
        for scale in args.scale:
            scores.append(evaluate(folder.name, images, scale, "bicubic", bicubic(scale)))
            with Upscaler.load(args.bundle or scale) as up:
                scores.append(evaluate(folder.name, images, up.scale, "HFDN", network(up)))
    if args.json:
        print(json.dumps([asdict(score) for score in scores], indent=1))
        return
    print("| set | scale | method | PSNR | SSIM |\n|---|---|---|---|---|")
    for s in scores:
        print(f"| {s.set} | ×{s.scale} | {s.method} | {s.psnr:.2f} | {s.ssim:.4f} |")
