"""PSNR and SSIM on luma, by the protocol of the published tables (`hfdn_deploy.bench.quality`)."""

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks import baseline
from benchmarks.pictures import side_by_side
from export.sessions import candidate
from hfdn_deploy.bench import (
    PEAK,
    crop_to_multiple,
    degrade,
    load_luma_set,
    psnr,
    ssim,
    to_levels,
)
from hfdn_deploy.bundle import PRECISIONS, Bundle, Manifest, pretrained, pretrained_scales
from hfdn_deploy.images import imresize, write_image
from hfdn_deploy.upscaler import Upscaler

Luma = NDArray[np.uint8]
Method = Callable[[NDArray[np.float64]], NDArray[np.floating]]

# Number of images in the paper's test sets.
SET_SIZES = {"Set5": 5, "Set14": 14, "BSD100": 100, "Urban100": 100}

# Published PSNR of HFDN at ×2, ×3, ×4 (ICIP 2020).
PAPER_PSNR = {"Set5": (37.95, 34.21, 31.86), "Set14": (33.46, 30.05, 28.26)}

# Published parameters and MACCs of HFDN, by scale.
PAPER_COMPLEXITY = {2: ("760.1k", "260.7G"), 3: ("823k", "248.21G"), 4: ("760.1k", "178.51G")}

# Side of the shown crops, in pixels of the original.
CROP = 96


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


def upscale_set(images: Mapping[str, Luma], scale: int, run: Method) -> dict[str, Luma]:
    """Degrade each original and upscale it with `run`, rounded to whole levels.

    Args:
        images: originals by name, (H, W) luma 0..255.
        scale: upscaling factor.
        run: maps low-resolution luma (H, W) on the 8-bit scale to (scale·H, scale·W).
    """
    bar = tqdm(images.items(), unit="image", disable=None, leave=False)
    return {
        name: to_levels(run(degrade(crop_to_multiple(image, scale), scale))) for name, image in bar
    }


def score(
    set_name: str, scale: int, method: str, images: Mapping[str, Luma], outputs: Mapping[str, Luma]
) -> Score:
    """Compare the outputs of `upscale_set` with the originals."""
    scores = {}
    for name, image in images.items():
        hr = crop_to_multiple(image, scale)
        scores[name] = (psnr(outputs[name], hr, scale), ssim(outputs[name], hr, scale))
    mean_psnr, mean_ssim = np.mean(list(scores.values()), axis=0)
    return Score(set_name, scale, method, float(mean_psnr), float(mean_ssim), scores)


def bicubic(scale: int) -> Method:
    """Return MATLAB's bicubic upscaling."""
    return lambda lr: imresize(lr, scale)


def network(up: Upscaler) -> Method:
    """Return the network of an upscaler."""
    return lambda lr: up.upscale_luma((lr / PEAK).astype(np.float32)) * PEAK


def graph(model: onnx.ModelProto) -> Method:
    """Return a graph as ONNX Runtime runs it on the CPU."""
    run = candidate(model)
    return lambda lr: run((lr[None, None] / PEAK).astype(np.float32))[0, 0] * PEAK


def networks(bundle: Bundle, precision: str, ensemble: bool) -> Iterator[tuple[str, Method]]:
    """Yield one precision of a bundle, HFDN+ if `ensemble`, and for INT8 its baselines."""
    suffix = "" if precision == "fp32" else f" {precision}"
    with Upscaler.load(bundle.path, precision=precision) as up:
        yield f"HFDN{suffix}", network(up)
        if ensemble:
            yield f"HFDN+{suffix}", network(Upscaler(up.backend, up.choice, ensemble=True))
    if precision == "int8":
        for name, data in baseline.int8_graphs(bundle).items():
            yield name, graph(onnx.load_model_from_string(data))


def picture(
    images: Mapping[str, Luma], scale: int, outputs: Mapping[str, Mapping[str, Luma]]
) -> tuple[str, Luma]:
    """Show all methods side by side on the crop where the first two differ most.

    Args:
        images: originals by name.
        scale: upscaling factor.
        outputs: results of `upscale_set`, by method; the first two are compared.

    Returns:
        The image's name and a captioned row of panels.
    """
    best, where = -1.0, ("", 0, 0)
    for name in images:
        difference = cv2.absdiff(*(result[name] for result in list(outputs.values())[:2]))
        mean = cv2.boxFilter(difference, cv2.CV_32F, (CROP, CROP), anchor=(0, 0))
        valid = mean[: -CROP + 1, : -CROP + 1]
        if valid.size and valid.max() > best:
            best = float(valid.max())
            row, column = np.unravel_index(valid.argmax(), valid.shape)
            where = (name, int(row) // scale * scale, int(column) // scale * scale)
    name, top, left = where
    hr = crop_to_multiple(images[name], scale)
    panels = {"low resolution": _crop(to_levels(degrade(hr, scale)), top, left, scale)}
    for method, result in outputs.items():
        caption = f"{method} {psnr(result[name], hr, scale):.2f} dB"
        panels[caption] = _crop(result[name], top, left)
    panels["original"] = _crop(hr, top, left)
    return name, side_by_side({k: np.dstack([v] * 3) for k, v in panels.items()}, zoom=3)


def _crop(image: Luma, top: int, left: int, factor: int = 1) -> Luma:
    """Return the crop at `top`, `left` of the original, from an image `factor` times smaller."""
    side = CROP // factor
    return image[top // factor :, left // factor :][:side, :side]


def markdown(scores: Iterable[Score]) -> str:
    """Return a Markdown table, with the paper's PSNR where it is known."""
    lines = ["| set | scale | method | PSNR | SSIM | paper's PSNR |", "|---|---|---|---|---|---|"]
    for s in scores:
        known = PAPER_PSNR.get(s.set) if s.method == "HFDN" else None
        paper = f"{known[s.scale - 2]:.2f}" if known else ""
        size = SET_SIZES.get(s.set, len(s.images))
        note = "" if len(s.images) == size else f" (incomplete: {len(s.images)} of {size})"
        lines.append(
            f"| {s.set}{note} | ×{s.scale} | {s.method} | {s.psnr:.2f} | {s.ssim:.4f} | {paper} |"
        )
    return "\n".join(lines) + "\n"


def complexity(manifest: Manifest) -> str:
    """Return a sentence with the parameters and MACCs of a network and of the paper."""
    parameters, maccs = PAPER_COMPLEXITY[manifest.scale]
    return (
        f"×{manifest.scale}: {manifest.parameters:,} parameters (paper: {parameters}), "
        f"{manifest.macs_paper / 1e9:.2f}G MACCs in the paper's convention (paper: {maccs})."
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `python -m benchmarks quality`."""
    parser.add_argument("--data", type=Path, action="append", required=True, help="image folder")
    models = parser.add_mutually_exclusive_group()
    models.add_argument("--scale", type=int, nargs="+", choices=(2, 3, 4), help="default: all")
    models.add_argument("--bundle", type=Path, help="bundle instead of the package's")
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=["fp32"])
    parser.add_argument("--ensemble", action="store_true", help="add HFDN+, which takes 8× as long")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="write crops side by side")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def main(args: argparse.Namespace) -> None:
    """Print the scores of bicubic upscaling, HFDN and HFDN+ on every set."""
    scores = []
    if args.bundle:
        bundles = [Bundle(args.bundle)]
    else:
        bundles = [pretrained(scale) for scale in args.scale or pretrained_scales()]
    for folder in args.data:
        images = load_luma_set(folder)
        for bundle in bundles:
            scale = bundle.manifest.scale
            outputs = {"bicubic": upscale_set(images, scale, bicubic(scale))}
            for precision in args.precision:
                for method, run in networks(bundle, precision, args.ensemble):
                    outputs[method] = upscale_set(images, scale, run)
            scores += [score(folder.name, scale, k, images, out) for k, out in outputs.items()]
            if args.pictures:
                name, row = picture(images, scale, outputs)
                args.pictures.mkdir(parents=True, exist_ok=True)
                write_image(args.pictures / f"{folder.name}_x{scale}_{Path(name).stem}.png", row)
    if args.json:
        print(json.dumps([asdict(s) for s in scores], indent=1))
    else:
        print(markdown(scores))
        print("\n".join(complexity(bundle.manifest) for bundle in bundles))
        if args.pictures:
            print(f"crops: {args.pictures}")
