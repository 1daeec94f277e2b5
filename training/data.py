"""Training images in flat buffers, and random patches cut from them with one gather."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hfdn_deploy.bench import PEAK, crop_to_multiple, degrade, luma8, to_levels
from hfdn_deploy.errors import InputError
from hfdn_deploy.images import find_images, imresize, read_image

logger = logging.getLogger(__name__)

# One image in this many is held out for validation; the last one if there are fewer.
VALIDATION_EVERY = 64
# Folders of grey images in full range; grey images in other folders are studio-range luma.
FULL_RANGE_FOLDERS = ("DIV2K-luma-crops",)

Luma = NDArray[np.uint8]


def load_folders(folders: Sequence[Path]) -> tuple[list[Luma], list[Luma]]:
    """Load all images below `folders` as 8-bit luma.

    Returns:
        Training images, validation images.

    Raises:
        InputError: a folder does not exist, there are no images, or one cannot be read.
    """
    if missing := [str(folder) for folder in folders if not folder.is_dir()]:
        raise InputError(f"not a folder: {', '.join(missing)}; name folders with --data.")
    paths = sorted(
        (path for folder in folders for path in find_images(folder, recursive=True)),
        key=lambda path: (path.parent.name, path.name),
    )
    if not paths:
        raise InputError(
            f"there are no images below {', '.join(map(str, folders))}; name folders of images."
        )
    with ThreadPoolExecutor() as pool:
        images = list(pool.map(_load, paths))
    every = min(VALIDATION_EVERY, len(images))
    held_out = slice(every - 1, None, every)
    validation = images[held_out]
    del images[held_out]
    return images, validation


def _load(path: Path) -> Luma:
    luma = luma8(read_image(path))
    if path.parent.name in FULL_RANGE_FOLDERS:
        luma = np.round(16 + luma * (219 / PEAK)).astype(np.uint8)
    return luma


class Patches:
    """Random patches with flips and rotations, uniform over all positions in all images."""

    def __init__(
        self,
        images: Sequence[Luma],
        scale: int,
        patch: int,
        device: str,
        sizes: Sequence[float] = (1.0,),
    ) -> None:
        """Degrade the images once and copy them to flat buffers on `device`.

        Args:
            images: (H, W) luma; images smaller than a patch are left out.
            scale: upscaling factor.
            patch: side of the HR patches, a multiple of `scale`.
            device: device of the buffers and of the patches.
            sizes: relative sizes at which each image is used, unless smaller than a patch.

        Raises:
            InputError: `patch` is not a multiple of `scale`, or every image is smaller than a
                patch.
        """
        if patch % scale:
            raise InputError(f"the patch side {patch} is not a multiple of scale {scale}.")
        large = [image for image in images if min(image.shape) >= patch]
        if not large:
            raise InputError(f"no training image is at least {patch}×{patch} pixels.")
        if len(large) < len(images):
            logger.warning(
                "left out %d images that are smaller than a patch", len(images) - len(large)
            )
        with ThreadPoolExecutor() as pool:
            copies = pool.map(lambda pair: to_levels(imresize(*pair)), product(large, sizes))
            cropped = (crop_to_multiple(copy, scale) for copy in copies)
            large = [image for image in cropped if min(image.shape) >= patch]
            degraded = list(pool.map(lambda image: degrade(image, scale), large))
        self.scale, self.patch, self.device = scale, patch, device
        self._hr = torch.from_numpy(np.concatenate([i.ravel() for i in large])).to(device)
        flat = np.concatenate([(i / PEAK).astype(np.float32).ravel() for i in degraded])
        self._lr = torch.from_numpy(flat).to(device)
        shapes = np.array([image.shape for image in degraded])
        self._width = shapes[:, 1]
        self._start = np.concatenate([[0], np.cumsum(shapes.prod(axis=1))])[:-1]
        # Number of positions of a patch's corner in each LR image, by row and by column.
        self._positions = shapes - patch // scale + 1
        area = self._positions.prod(axis=1)
        self._share = area / area.sum()

    def draw(self, size: int, seed: int, step: int) -> Tensor:
        """Return the positions of the patches of the batch (seed, step), on the CPU.

        Returns:
            (N, 5) int64: start, width, row and column in LR pixels, and symmetry 0..7.
        """
        rng = np.random.default_rng((seed, step))
        which = rng.choice(len(self._share), size=size, p=self._share)
        corner = rng.integers(0, self._positions[which])
        symmetry = rng.integers(0, 8, size=size)
        numbers = [self._start[which], self._width[which], corner, symmetry]
        return torch.from_numpy(np.column_stack(numbers))

    def cut(self, where: Tensor) -> tuple[Tensor, Tensor]:
        """Return the drawn batch: LR (N, 1, p, p), HR (N, 1, sp, sp), floats in [0, 1].

        Args:
            where: result of `draw`, on the device of the patches.
        """
        lr = self._gather(self._lr, 1, where)
        hr = self._gather(self._hr, self.scale, where)
        return lr, hr.float() / PEAK

    def _gather(self, flat: Tensor, zoom: int, where: Tensor) -> Tensor:
        """Return patches of the images in `flat`, which are `zoom` times the size of the LR images.

        Args:
            flat: the buffer of the LR or the HR images.
            zoom: 1 for LR images, the scale for HR images.
            where: result of `draw`.
        """
        side = self.patch // self.scale * zoom
        start, width, top, left, symmetry = where[:, :, None, None].unbind(1)
        i = torch.arange(side, device=self.device).view(1, -1, 1)
        j = i.transpose(1, 2)
        row, column = torch.where(symmetry & 1 > 0, j, i), torch.where(symmetry & 1 > 0, i, j)
        row = torch.where(symmetry & 2 > 0, side - 1 - row, row) + zoom * top
        column = torch.where(symmetry & 4 > 0, side - 1 - column, column) + zoom * left
        index = start * zoom**2 + row * width * zoom + column
        return flat[index].unsqueeze(1)
