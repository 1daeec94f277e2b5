"""Images for INT8 calibration, and the values that a graph's tensors take on them."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from tqdm import tqdm

from export import kinds
from export.sessions import Array, open_outputs
from hfdn_deploy.bench import (
    calibration_photographs,
    crop_to_multiple,
    degrade,
    load_luma_set,
    luma8,
)
from hfdn_deploy.errors import InputError

# Side of the crops of downscaled images, in low-resolution pixels.
CROP = 64
# Every n-th image of a folder is held out.
HELD_OUT_EVERY = 4
BINS = 1024
# Sharp crops kept of each image: those on a grid that give the largest values in tensors.
SHARP = 4
# Largest number of crops along a side of the grid.
GRID = 4
# Seeds of drawings, different from those of the drawings that graphs are judged on.
SEEDS = (7, 8, 9)
DRAWN = ("text and screens", "drawings and comics", "pixel art")
# Weight of each kind of calibration image when ranges are chosen. Sharp crops are what users
# upscale, and already the hardest crops of their images.
WEIGHTS = {"downscaled": 0.3, "sharp": 1.0, "drawn": 0.3}


@dataclass(frozen=True)
class Pair:
    """A crop of an image in both resolutions."""

    lr: Array
    """Luma (1, 1, H, W) in [0, 1]."""
    original: NDArray[np.uint8]
    """Luma (sH, sW), 0..255."""


@dataclass(frozen=True)
class Pictures:
    """The images that quantisation uses."""

    calibration: tuple[Pair, ...]
    """Downscaled crops, on which ranges are measured."""
    sharp: tuple[kinds.Luma, ...]
    """The same images whole; ranges are measured on crops of these, too."""
    held_out: tuple[Pair, ...]
    """Downscaled crops, on which layers are chosen."""

    def sha256(self) -> str:
        """Return the hash of all originals."""
        digest = hashlib.sha256()
        for image in (*self.sharp, *(pair.original for pair in self.held_out)):
            digest.update(np.ascontiguousarray(image).tobytes())
        return digest.hexdigest()


def load_pictures(folder: Path | None, scale: int) -> Pictures:
    """Load a folder's images, or by default the photographs of scikit-image.

    Raises:
        InputError: the folder does not exist, holds fewer than two images or an unusable image, or
            all images for calibration are blank.
    """
    if folder is None:
        calibration, held_out = (
            [luma8(image) for image in images.values()] for images in calibration_photographs()
        )
    else:
        if not folder.is_dir():
            raise InputError(f"{folder} is not a folder; name a folder of images, or a bundle.")
        images = list(load_luma_set(folder).values())
        if len(images) < 2:
            raise InputError(f"{folder} holds one image; calibration needs two or more.")
        held_out = images[::HELD_OUT_EVERY]
        calibration = [image for i, image in enumerate(images) if i % HELD_OUT_EVERY]
        if not any(image.std() for image in calibration):
            raise InputError(f"the images in {folder} are blank; calibrate with photographs.")
    pairs = [tuple(_pair(image, scale) for image in images) for images in (calibration, held_out)]
    return Pictures(pairs[0], tuple(calibration), pairs[1])


def _pair(image: NDArray[np.uint8], scale: int) -> Pair:
    """Return the centre of an image in both resolutions."""
    hr = crop_to_multiple(image, scale)
    top, left = (max(n // scale - CROP, 0) // 2 * scale for n in hr.shape)
    hr = hr[top:, left:][: CROP * scale, : CROP * scale]
    return Pair(kinds.to_input(degrade(hr, scale)), hr)


def calibration_inputs(
    model: onnx.ModelProto, tensors: Sequence[str], pictures: Pictures
) -> dict[str, list[Array]]:
    """Return the inputs on which tensors are observed, by the keys of `WEIGHTS`."""
    run = open_outputs(model, tensors)
    sharp: list[Array] = []
    for image in tqdm(pictures.sharp, desc="sharp crops", unit="image", disable=None, leave=False):
        crops = [kinds.to_input(x) for x in _on_a_grid(image)]
        reach = np.array([[np.abs(values).max() for values in run(lr)] for lr in crops])
        farthest = sorted(
            set(reach.argmax(0)), key=lambda i: -(reach[i] / (reach.max(0) + 1e-9)).sum()
        )
        sharp += [crops[i] for i in farthest[:SHARP]]
    drawn = [
        kinds.to_input(image)
        for seed in SEEDS
        for kind in DRAWN
        for image in kinds.KINDS[kind](np.random.default_rng(seed))
    ]
    return {
        "downscaled": [pair.lr for pair in pictures.calibration], "sharp": sharp, "drawn": drawn
    }  # fmt: skip


def _on_a_grid(image: kinds.Luma) -> Iterable[kinds.Luma]:
    """Yield crops spread over an image; an image smaller than a crop is yielded whole."""
    places = [range(0, max(side - CROP, 0) + 1, max(side // GRID, CROP)) for side in image.shape]
    for top, left in product(*places):
        yield image[top : top + CROP, left : left + CROP]


@dataclass(frozen=True)
class Observation:
    """Statistics of the values that a tensor's channels took."""

    limits: NDArray[np.float64]
    """(C,) largest absolute value of each channel."""
    shares: NDArray[np.float64]
    """(C, BINS) share of the values in each of equal bins from -limit to +limit."""
    means: NDArray[np.float64]
    """(C,) mean of each channel."""

    @property
    def centres(self) -> NDArray[np.float64]:
        """(C, BINS) midpoints of the bins."""
        return np.asarray(np.outer(self.limits, (2 * np.arange(BINS) + 1) / BINS - 1))


def observe(
    model: onnx.ModelProto, tensors: Sequence[str], inputs: dict[str, list[Array]]
) -> dict[str, Observation]:
    """Run a graph on images, (1, 1, H, W) by kind, and return statistics of its tensors.

    Each kind counts as much as `WEIGHTS` says, however many images it has.
    """
    run = open_outputs(model, tensors)
    total = sum(WEIGHTS[kind] for kind in inputs)
    images = [(WEIGHTS[kind] / total / len(x), lr) for kind, x in inputs.items() for lr in x]
    limits: dict[str, NDArray[np.float64]] = {}
    for _, lr in images:
        for name, values in zip(tensors, run(lr), strict=True):
            peaks = np.abs(values).max((0, 2, 3)).astype(np.float64)
            limits[name] = np.maximum(peaks, limits.get(name, 1e-6))
    shares = {name: np.zeros((len(limit), BINS)) for name, limit in limits.items()}
    means = {name: np.zeros(len(limit)) for name, limit in limits.items()}
    for weight, lr in tqdm(images, desc="calibration", unit="image", disable=None, leave=False):
        for name, values in zip(tensors, run(lr), strict=True):
            flat = values.swapaxes(0, 1).reshape(len(limits[name]), -1)
            bins = ((flat / limits[name][:, None] + 1) * (BINS / 2)).astype(np.int64)
            for counts, row in zip(shares[name], bins.clip(0, BINS - 1), strict=True):
                counts += np.bincount(row, minlength=BINS) * (weight / row.size)
            means[name] += weight * flat.mean(1, dtype=np.float64)
    return {name: Observation(limits[name], shares[name], means[name]) for name in tensors}
