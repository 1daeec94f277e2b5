"""The kinds of images that users upscale, for calibrating and judging INT8.

Photographs come with scikit-image; everything else is drawn from a seed. The images are like those
of a user: small, at full sharpness, without an original of higher resolution.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from export.sessions import Array
from hfdn_deploy.bench import PEAK, luma8, sharp_photographs

Luma = NDArray[np.uint8]
"""(H, W), 0..255."""
Draw = ImageDraw.ImageDraw

# Height and width of an image.
SIDE = 64
# Smooth drawings are made this many times as large and averaged.
FINER = 4
# Row and column of a second crop, beside the one from the centre, of photographs that have a place
# that is harder for INT8.
SPOTS = {
    "astronaut": (103, 246),
    "camera": (297, 162),
    "coffee": (251, 392),
    "coins": (234, 56),
    "grass": (278, 446),
    "page": (78, 352),
    "rocket": (228, 331),
    "stereo_motorcycle": (114, 358),
}
WORDS = (
    "File Edit View Help return self.scale Save as 12:45 Inbox (3) def main(): 1,024 px Lorem "
    "ipsum dolor sit amet Search 0x7ffe ERROR 404 git commit -m iIlL1| {[(<>)]} @#%& Wxyz gjpq"
)
# Tones of ink and paper.
LINES = ((0, 255), (255, 0), (160, 64))
BAYER = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]]) * 16 + 8


def photographs(_: np.random.Generator) -> list[Luma]:
    """Return crops of photographs at full sharpness; they do not depend on the seed."""
    return list(_photographs(SIDE))


@cache
def _photographs(side: int) -> tuple[Luma, ...]:
    crops = []
    for name, image in sharp_photographs().items():
        middle = (image.shape[0] // 2, image.shape[1] // 2)
        spots = [middle, SPOTS[name]] if name in SPOTS else [middle]
        crops += [crop(luma8(image), *spot, side) for spot in spots]
    return tuple(crops)


def judged_images() -> dict[str, list[Array]]:
    """Return the inputs that graphs are judged on, by kind."""
    return {
        kind: [to_input(image) for image in make(np.random.default_rng(0))]
        for kind, make in KINDS.items()
    }


def to_input(image: Luma | NDArray[np.float64]) -> Array:
    """Return luma 0..255 as a graph reads it: (1, 1, H, W) in [0, 1]."""
    return (image / PEAK).astype(np.float32)[None, None]


def crop(image: Luma, row: int, column: int, side: int) -> Luma:
    """Return `side` × `side` pixels around a place, moved inwards near an edge."""
    places = zip(image.shape, (row, column), strict=True)
    top, left = (max(min(at - side // 2, length - side), 0) for length, at in places)
    return image[top : top + side, left : left + side]


def text(rng: np.random.Generator) -> list[Luma]:
    """Draw pages and screens: framed text in several sizes, dark on light and light on dark."""
    images = []
    for size, ink, paper in (
        (9, 0, 255), (11, 30, 240), (11, 255, 0), (13, 220, 40), (16, 0, 255), (28, 255, 20),
    ):  # fmt: skip
        image, draw = _page(rng, size, ink, paper)
        if size in (11, 13):
            draw.rectangle((3, 12, 60, 50), outline=ink)
            draw.rectangle((0, 0, 64, 9), fill=(ink + paper) // 2)
        images.append(np.asarray(image))
    return images


def aliased_text(rng: np.random.Generator) -> list[Luma]:
    """Draw text as terminals and old programs do, without antialiasing."""
    return [
        np.asarray(_page(rng, size, ink, paper, antialiased=False)[0])
        for size, ink, paper in (
            (8, 0, 255), (9, 0, 255), (9, 255, 0), (11, 0, 255), (11, 30, 240), (13, 220, 40),
        )
    ]  # fmt: skip


def drawings(rng: np.random.Generator) -> list[Luma]:
    """Draw comics and diagrams: flat and shaded areas, thick and thin outlines, halftone dots."""
    images = []
    for kind in range(6):
        image, draw = _canvas(255, FINER)
        for _ in range(5):
            points = [tuple(map(float, p)) for p in rng.uniform(0, SIDE * FINER, (4, 2))]
            tone = int(rng.integers(256))
            draw.polygon(points, fill=tone, outline=0, width=FINER * (1 + kind % 3))
            centre, radius = rng.uniform(0, SIDE * FINER, 2), rng.uniform(4, 14) * FINER
            box = (*(centre - radius), *(centre + radius))
            draw.ellipse(box, fill=255 - tone, outline=0, width=FINER * (1 + kind % 2))
        if kind % 3 == 2:
            for x, y in np.ndindex(SIDE // 8, SIDE // 4):
                at, radius = np.array([x * 4, y * 4]) * FINER, 1.2 * FINER
                draw.ellipse((*(at - radius), *(at + radius)), fill=0)
        drawn = np.asarray(image.reduce(FINER), np.float64)
        if kind % 3 == 1:
            drawn *= np.linspace(0.4, 1.0, SIDE)[:, None]
        images.append(drawn.round().astype(np.uint8))
    return images


def screentones(rng: np.random.Generator) -> list[Luma]:
    """Draw what manga is shaded with: screens of dots, and rays of one pixel around a place."""
    images = []
    row, column = np.indices((SIDE, SIDE)) / SIDE
    for period, degrees, sharpness, darkness in (
        (3, 45, 256, 0.3), (4, 45, 256, column), (4, 0, 256, 0.3), (5, 30, 3, row), (6, 45, 3, 0.4),
    ):  # fmt: skip
        angle = np.deg2rad(degrees)
        along = np.cos(angle) * row + np.sin(angle) * column
        across = np.cos(angle) * column - np.sin(angle) * row
        waves = (np.cos(2 * np.pi * SIDE / period * x) for x in (along, across))
        bright = 0.5 - sum(waves) / 4
        drawn = 255 * np.clip(0.5 + sharpness * (bright - darkness), 0, 1)
        images.append(drawn.round().astype(np.uint8))
    for ink, paper, finer in ((0, 255, 1), (255, 0, 1), (30, 240, 1), (0, 255, FINER)):
        image, draw = _canvas(paper, finer)
        centre = rng.uniform(16, 48, 2) * finer
        for angle in np.linspace(0, 2 * np.pi, 40, endpoint=False):
            near, far = np.outer([rng.uniform(6, 16), 2 * SIDE], [np.cos(angle), np.sin(angle)])
            draw.line((*(centre + near * finer), *(centre + far * finer)), fill=ink, width=finer)
        images.append(np.asarray(image.reduce(finer)))
    return images


def pixel_art(rng: np.random.Generator) -> list[Luma]:
    """Draw mirrored sprites of few tones, whose pixels have a side of 1, 2 or 4."""
    images = []
    for times in (1, 1, 2, 2, 4, 4):
        side = SIDE // times
        palette = rng.choice([0, 40, 85, 130, 170, 215, 255], 4, replace=False).astype(np.uint8)
        tones = rng.integers(4, size=(side // 4, side // 8)).repeat(4, 0).repeat(4, 1)
        single = rng.random(tones.shape) < 0.2
        half = palette[np.where(single, rng.integers(4, size=tones.shape), tones)]
        sprite = np.hstack([half, half[:, ::-1]])
        images.append(sprite.repeat(times, 0).repeat(times, 1))
    return images


def dithering(rng: np.random.Generator) -> list[Luma]:
    """Dither ramps and photographs to black and white or four tones, by error or in order."""
    sources = [*gradients(rng)[:2], *(p for p in photographs(rng)[::8])]
    images = []
    for source in sources[:4]:
        images += [dithered_by_error(source), dithered_in_order(source)]
    tones = (sources[0].astype(np.int64) * 3 + _thresholds()) // 256 * 85
    return [*images, tones.astype(np.uint8)]


def dithered_by_error(image: Luma) -> Luma:
    """Dither to black and white by Floyd and Steinberg's diffusion of the error."""
    return np.asarray(Image.fromarray(image).convert("1").convert("L"))


def dithered_in_order(image: Luma) -> Luma:
    """Dither SIDE × SIDE pixels to black and white by Bayer's matrix."""
    return np.where(image > _thresholds(), 255, 0).astype(np.uint8)


def _thresholds() -> NDArray[np.int64]:
    return np.tile(BAYER, (SIDE // 4, SIDE // 4))


def noise(rng: np.random.Generator) -> list[Luma]:
    """Draw independent pixels: uniform, around grey, salt and pepper, on a photograph."""
    grain = rng.normal(0, 1, (4, SIDE, SIDE))
    photograph = photographs(rng)[0].astype(np.float64)
    images = [
        rng.uniform(0, 256, (SIDE, SIDE)),
        128 + 40 * grain[0],
        128 + 12 * grain[1],
        np.where(rng.random((SIDE, SIDE)) < 0.05, rng.choice([0, 255], (SIDE, SIDE)), 128),
        rng.choice([0, 255], (SIDE, SIDE)),
        photograph + 20 * grain[2],
    ]
    return [np.clip(image, 0, 255).astype(np.uint8) for image in images]


def gradients(rng: np.random.Generator) -> list[Luma]:
    """Draw skies, shadows and vignettes, where steps between levels would show."""
    row, column = np.indices((SIDE, SIDE)) / (SIDE - 1)
    distance = np.hypot(row - rng.uniform(0, 1), column - rng.uniform(0, 1))
    images = [
        255 * column,
        16 + 48 * row,
        120 + 30 * (row + column) / 2,
        230 - 90 * distance,
        40 * np.exp(-4 * distance**2),
        255 * (0.5 + 0.5 * np.sin(6 * distance + rng.uniform(0, 6))),
    ]
    return [image.round().astype(np.uint8) for image in images]


def dark(rng: np.random.Generator) -> list[Luma]:
    """Darken photographs to an eighth of the light, and add sensor noise to every second one."""
    images = []
    for i, image in enumerate(photographs(rng)[::4]):
        night = image / 8 + (i % 2) * rng.normal(0, 1.5, image.shape)
        images.append(np.clip(night.round(), 0, 255).astype(np.uint8))
    return images


def lines(rng: np.random.Generator) -> list[Luma]:
    """Draw lines of one pixel, straight and round, smooth and not, on light and on dark."""
    images = []
    for ink, paper in LINES:
        for finer in (1, FINER):
            drawn = np.array(draw_lines(rng, ink, paper, finer).reduce(finer))
            drawn[2:20:2, 40:62] = ink
            drawn[24:46, 2:20:3] = ink
            images.append(drawn)
    row, column = np.indices((SIDE, SIDE))
    return [*images, ((row + column) % 2 * 255).astype(np.uint8)]


def draw_lines(rng: np.random.Generator, ink: int, paper: int, finer: int) -> Image.Image:
    """Draw straight lines and a circle, `finer` pixels wide, on a canvas of side SIDE · `finer`."""
    image, draw = _canvas(paper, finer)
    for _ in range(8):
        ends = rng.uniform(0, SIDE * finer, 4)
        draw.line([float(x) for x in ends], fill=ink, width=finer)
    centre, radius = rng.uniform(20, 44, 2) * finer, rng.uniform(8, 24) * finer
    draw.ellipse((*(centre - radius), *(centre + radius)), outline=ink, width=finer)
    return image


KINDS: dict[str, Callable[[np.random.Generator], list[Luma]]] = {
    "photographs": photographs,
    "text and screens": text,
    "text without antialiasing": aliased_text,
    "drawings and comics": drawings,
    "screentones and rays": screentones,
    "pixel art": pixel_art,
    "gradients": gradients,
    "dark images": dark,
    "one-pixel lines": lines,
    "dithering": dithering,
    "noise": noise,
}


def _canvas(tone: int, finer: int = 1) -> tuple[Image.Image, Draw]:
    image = Image.new("L", (SIDE * finer, SIDE * finer), tone)
    return image, ImageDraw.Draw(image)


def _page(
    rng: np.random.Generator, size: int, ink: int, paper: int, antialiased: bool = True
) -> tuple[Image.Image, Draw]:
    """Return a canvas full of words."""
    image, draw = _canvas(paper)
    draw.fontmode = "L" if antialiased else "1"
    font = ImageFont.load_default(size)
    for top in range(1, SIDE, size + 2):
        line = " ".join(rng.permutation(WORDS.split())[:12])
        draw.text((2 - int(rng.integers(9)), top), line, fill=ink, font=font)
    return image, draw
