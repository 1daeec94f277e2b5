"""Antialiased resizing to an exact size, in bands of rows, with the kernel of `resize.py`.

Each axis has its own scale, the ratio of its lengths. Values are not rounded or clipped between
the axes.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import DTypeLike

from hfdn_deploy.images.alpha import VISIBLE
from hfdn_deploy.images.colour import quantized
from hfdn_deploy.images.resize import weights
from hfdn_deploy.images.rows import Image, Pixels, Plane, size_of

# Rows, or columns, of the result per matrix. Larger matrices have more zeros.
_TOGETHER = 32


@dataclass(frozen=True)
class _Block:
    """The matrix that computes a block of rows, or columns, of the result."""

    read: slice
    """Rows, or columns, of the source that it needs."""
    matrix: Plane
    """(rows of the result, rows of the source)"""


@lru_cache(maxsize=16)
def _blocks(length: int, out_length: int, anchor: float) -> list[_Block]:
    """Return the blocks that resize `length` pixels to `out_length`, in order."""
    index, weight = weights(length, out_length, out_length / length, anchor)
    blocks = []
    for start in range(0, out_length, _TOGETHER):
        part, share = index[start : start + _TOGETHER], weight[start : start + _TOGETHER]
        first = int(part.min())
        matrix = np.zeros((len(part), int(part.max()) + 1 - first))
        # Pixels that mirror others at the edge add to their weights.
        np.add.at(matrix, (np.arange(len(part))[:, None], part - first), share)
        read = slice(first, first + matrix.shape[1])
        blocks.append(_Block(read, matrix.astype(np.float32)))
    return blocks


def resize_planes(
    bands: Iterable[Plane],
    shape: tuple[int, int],
    size: tuple[int, int],
    anchors: tuple[float, float] = (0.5, 0.5),
) -> Iterator[Plane]:
    """Resize planes that arrive in bands of rows; only the rows that the kernel spans are held.

    Args:
        bands: (planes, rows, W) from top to bottom, together (planes, H, W).
        shape: H and W.
        size: height and width of the result, h and w.
        anchors: position of the sample within a pixel, vertical and horizontal.

    Returns:
        Bands (planes, rows, w), together (planes, h, w).
    """
    down, across = (_blocks(*axis) for axis in zip(shape, size, anchors, strict=True))
    kept: Plane | None = None
    top = done = 0
    for band in bands:
        narrow = np.concatenate(
            [band[..., block.read] @ block.matrix.T for block in across], axis=2
        )
        kept = narrow if kept is None else np.concatenate([kept, narrow], axis=1)
        while done < len(down) and down[done].read.stop <= top + kept.shape[1]:
            block = down[done]
            yield block.matrix @ kept[:, block.read.start - top : block.read.stop - top]
            done += 1
        if done < len(down) and (unused := down[done].read.start - top) > 0:
            kept, top = kept[:, unused:], top + unused


def resize_image(
    bands: Iterable[Pixels], shape: tuple[int, ...], size: tuple[int, int], dtype: DTypeLike
) -> Iterator[Image]:
    """Resize an image that arrives in bands of rows; colours are weighted by alpha.

    Args:
        bands: float32 in [0, 1], together of `shape`.
        shape: (H, W) or (H, W, C), with 1 to 4 channels and straight alpha in the second or fourth.
        size: height and width of the result.
        dtype: of the result: uint8, uint16 or float32.

    Returns:
        Bands of rows, together (h, w) or (h, w, C).
    """
    height, width, channels = size_of(shape)
    colours = channels - 1 if channels in (2, 4) else channels

    def planes(band: Pixels) -> Plane:
        split = np.moveaxis(band.reshape(*band.shape[:2], channels), 2, 0)
        if colours < channels:
            split = np.concatenate([split[:colours] * split[colours:], split])
        return np.ascontiguousarray(split)

    for band in resize_planes(map(planes, bands), (height, width), size):
        pixels = band
        if colours < channels:
            weighted, straight, alpha = np.split(band, [colours, 2 * colours])
            shown = alpha > VISIBLE
            colour = np.where(shown, weighted / np.where(shown, alpha, 1), straight)
            pixels = np.concatenate([colour, alpha])
        rows = np.ascontiguousarray(np.moveaxis(pixels, 0, 2))
        yield quantized(rows, dtype).reshape(*rows.shape[:2], *shape[2:])
