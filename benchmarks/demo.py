"""The main use case on photographs: shrink, upscale, compare with the originals."""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.pictures import Picture, side_by_side
from benchmarks.record import weights_of
from hfdn_deploy.bench import crop_to_multiple, luma8, photographs, psnr, to_levels
from hfdn_deploy.bundle import Bundle
from hfdn_deploy.images import imresize, write_image
from hfdn_deploy.upscaler import Upscaler

# Photograph shown in the comparison, and the top left corner of the crop as shares of its size.
SHOWN = ("chelsea", 0.27, 0.28)
CROP = 120


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `python -m benchmarks demo`."""
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--picture", type=Path, required=True, help="output file of the comparison")


def main(args: argparse.Namespace) -> None:
    """Print a table of the photographs and write one comparison image."""
    with Upscaler.load(args.bundle) as up:
        judged = judge(up)
        print(f"\nHFDN ×{up.scale} on {up.backend.name}; PSNR on luma against the original\n")
    print(f"{judged.table}\n\n{weights_of([Bundle(args.bundle)])}")
    args.picture.parent.mkdir(parents=True, exist_ok=True)
    write_image(args.picture, judged.picture)
    print(f"\ncomparison: {args.picture}")


@dataclass(frozen=True)
class Judged:
    """The results of a model on the photographs."""

    table: str
    """Markdown."""
    picture: Picture
    """A crop of one photograph: low resolution, bicubic, HFDN and original, side by side."""
    decibels: dict[str, tuple[float, float]]
    """PSNR of bicubic and HFDN on luma, by photograph."""


def judge(up: Upscaler) -> Judged:
    """Shrink the photographs, upscale them, and compare the results with the originals."""
    lines = [
        "| photograph | low resolution | upscaled | bicubic | HFDN | time |",
        "|---|---|---|---|---|---|",
    ]
    scores = {}
    panels: dict[str, Picture] = {}
    for name, image in photographs().items():
        if image.ndim != 3:
            continue
        hr = crop_to_multiple(image, up.scale)
        lr = to_levels(imresize(hr, 1 / up.scale))
        enlarged = to_levels(imresize(lr, up.scale))
        start = time.perf_counter()
        sr = np.asarray(up(lr), np.uint8)
        milliseconds = 1000 * (time.perf_counter() - start)
        bicubic, hfdn = (psnr(luma8(x), luma8(hr), up.scale) for x in (enlarged, sr))
        scores[name] = bicubic, hfdn
        lines.append(
            f"| {name} | {_size(lr)} | {_size(sr)} | {bicubic:.2f} dB | {hfdn:.2f} dB "
            f"| {milliseconds:.0f} ms |"
        )
        if name == SHOWN[0]:
            panels = {
                f"low resolution ({_size(lr)})": _crop(lr, up.scale),
                f"bicubic {bicubic:.2f} dB": _crop(enlarged, 1),
                f"HFDN {hfdn:.2f} dB": _crop(sr, 1),
                f"original ({_size(hr)})": _crop(hr, 1),
            }
    return Judged("\n".join(lines), side_by_side(panels, zoom=3), scores)


def _size(image: NDArray[np.uint8]) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"


def _crop(image: Picture, factor: int) -> Picture:
    """Return the shown crop of an image that is `factor` times smaller than the original."""
    side = CROP // factor
    top, left = (round(share * n * factor) // 12 * 12 // factor
                 for share, n in zip(SHOWN[1:], image.shape[:2], strict=True))  # fmt: skip
    return image[top : top + side, left : left + side]
