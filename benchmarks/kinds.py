"""INT8 by kind of image: its difference from fp32, and which of the two is nearer the source."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks.record import weights_of
from export.departure import Sample, departure
from export.kinds import (
    KINDS,
    LINES,
    SIDE,
    Luma,
    crop,
    dithered_by_error,
    dithered_in_order,
    draw_lines,
    judged_images,
    to_input,
)
from export.sessions import Run
from hfdn_deploy.bench import PEAK, degrade, luma8, psnr, sharp_photographs, to_levels
from hfdn_deploy.bundle import pretrained
from hfdn_deploy.images import write_image
from hfdn_deploy.upscaler import Upscaler

# PSNRs that differ by less than this count as a tie.
TIE_DB = 0.02
# Width of the names at the left of the sheet, in pixels.
NAMES = 172


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `python -m benchmarks kinds`."""
    parser.add_argument("--scale", type=int, nargs="+", default=[2, 3, 4], choices=(2, 3, 4))
    parser.add_argument("--backends", nargs="+", default=["onnxruntime", "openvino"])
    parser.add_argument("--sheet", type=Path, help="only write the images to this PNG")


def main(args: argparse.Namespace) -> None:
    """Print departures from fp32 by kind, then PSNR against the sources that are known."""
    if args.sheet:
        write_image(args.sheet, sheet())
        return
    rows: list[str] = []
    sources = []
    for scale in args.scale:
        with Upscaler.load(scale, "onnxruntime", "fp32") as reference:
            for backend in args.backends:
                with Upscaler.load(scale, backend, "int8") as up:
                    rows += _departures(_as_run(up), _as_run(reference), backend, scale)
                    for kind, pairs in with_sources(scale).items():
                        found = Nearness.of(pairs, _as_run(up), _as_run(reference), scale)
                        sources.append(f"| ×{scale} | {backend} | {kind} | {found} |")
    print(
        "| scale | backend | kind | PSNR, worst image | PSNR, median image | max levels |", end=""
    )
    print(" pixels in 10,000 beyond 4 | 8 | 16 | 32 | banding, levels |")
    print("|---|---|---|---|---|---|---|---|---|---|---|", *rows, "", sep="\n")
    print(
        "| scale | backend | source | images | bicubic | fp32 | int8 | fp32 nearer | int8 nearer |"
    )
    print("|---|---|---|---|---|---|---|---|---|", *sources, "", sep="\n")
    print(weights_of(map(pretrained, args.scale)))


def sheet() -> Luma:
    """Draw a row of images for each kind."""
    step, columns = SIDE + 4, 9
    drawn = Image.new("L", (NAMES + columns * step, len(KINDS) * step), 255)
    draw = ImageDraw.Draw(drawn)
    for row, (kind, make) in enumerate(KINDS.items()):
        images = make(np.random.default_rng(0))
        font = ImageFont.load_default(14)
        draw.text((4, row * step + SIDE // 3), kind, fill=0, font=font)
        for column, image in enumerate(images[:: -(-len(images) // columns)]):
            drawn.paste(Image.fromarray(image), (NAMES + column * step, row * step))
    return np.asarray(drawn)


def _departures(run: Run, reference: Run, backend: str, scale: int) -> Iterator[str]:
    for kind, images in judged_images().items():
        samples = list(map(Sample, images))
        all_ = departure(kind, samples, run, reference, scale)
        each = [departure(kind, [x], run, reference, scale).rms_levels for x in samples]
        least, median = (20 * np.log10(PEAK / x) for x in (all_.rms_levels, np.median(each)))
        shares = " | ".join(f"{1e4 * share:.1f}" for share in all_.beyond.values())
        yield (
            f"| ×{scale} | {backend} | {kind} | {least:.1f} dB | {median:.1f} dB "
            f"| {all_.max_levels:.0f} | {shares} | {all_.banding_levels:.1f} |"
        )


@dataclass(frozen=True)
class Nearness:
    """Mean PSNR against sources, and the number of images on which each precision is nearer."""

    images: int
    bicubic: float
    fp32: float
    int8: float
    fp32_nearer: int
    int8_nearer: int

    @classmethod
    def of(cls, pairs: list[Sample], run: Run, reference: Run, scale: int) -> "Nearness":
        """Measure a kind of images."""
        found = []
        for pair in pairs:
            assert pair.original is not None
            small = Image.fromarray(to_levels(pair.lr[0, 0] * PEAK))
            height, width = pair.original.shape
            results = [
                np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)),
                *(to_levels(x(pair.lr)[0, 0] * PEAK) for x in (reference, run)),
            ]
            found.append([psnr(pair.original, result, scale) for result in results])
        bicubic, fp32, int8 = np.array(found).T
        return cls(
            images=len(pairs),
            bicubic=float(bicubic.mean()),
            fp32=float(fp32.mean()),
            int8=float(int8.mean()),
            fp32_nearer=int((fp32 - int8 > TIE_DB).sum()),
            int8_nearer=int((int8 - fp32 > TIE_DB).sum()),
        )

    def __str__(self) -> str:
        decibels = " | ".join(f"{x:.2f} dB" for x in (self.bicubic, self.fp32, self.int8))
        return f"{self.images} | {decibels} | {self.fp32_nearer} | {self.int8_nearer}"


def with_sources(scale: int) -> dict[str, list[Sample]]:
    """Return images with known sources, by kind.

    The kinds are downscaled photographs, the same dithered by error diffusion or in order, and
    drawings of lines that are one pixel wide after downscaling.
    """
    side = SIDE * scale
    photographs = [
        crop(image, image.shape[0] // 2, image.shape[1] // 2, side)
        for image in map(luma8, sharp_photographs().values())
        if min(image.shape) >= side
    ]
    small = [to_levels(degrade(image, scale)) for image in photographs]
    drawings = [
        np.asarray(draw_lines(np.random.default_rng(seed), *LINES[seed % len(LINES)], scale))
        for seed in range(20)
    ]
    return {
        kind: [Sample(to_input(lr), source) for lr, source in zip(lrs, sources, strict=True)]
        for kind, lrs, sources in (
            ("photographs", small, photographs),
            ("photographs, dithered by error", map(dithered_by_error, small), photographs),
            ("photographs, dithered in order", map(dithered_in_order, small), photographs),
            ("one-pixel lines", [to_levels(degrade(x, scale)) for x in drawings], drawings),
        )
    }


def _as_run(up: Upscaler) -> Run:
    return lambda lr: up.upscale_luma(lr[0, 0])[None, None]
