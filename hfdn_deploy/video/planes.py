"""The planes of a YUV frame: luma to what the network reads and back, chroma upscaled.

Nothing here goes through RGB, so the matrix (BT.601, BT.709, ...) does not matter.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hfdn_deploy.images import Plane, resize_planes

Samples = NDArray[np.unsignedinteger[Any]]

# Studio range on the 8-bit scale (ITU-R BT.601 and BT.709): black, and black to white.
BLACK = 16
EXCURSION = 219


@dataclass(frozen=True)
class Layout:
    """How the samples of a planar format are stored."""

    format: str
    """FFmpeg's name of it."""
    bits: int
    """Of a sample: 8, or 10 in the low bits of 16."""
    subsampling: tuple[int, int] | None
    """Luma samples per chroma sample, across and down; None for grey."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of a sample."""
        return np.dtype(np.uint8 if self.bits == 8 else "<u2")


_SUBSAMPLING = {"yuv420p": (2, 2), "yuv422p": (2, 1), "yuv444p": (1, 1), "gray": None}

# By FFmpeg's name. The formats yuvj... are those of 8 bits in full range.
LAYOUTS = {
    **{name: Layout(name, 8, each) for name, each in _SUBSAMPLING.items()},
    **{f"{name}10le": Layout(f"{name}10le", 10, each) for name, each in _SUBSAMPLING.items()},
    **{name.replace("yuv", "yuvj"): Layout(name, 8, each) for name, each in _SUBSAMPLING.items()},
}


def luma_to_network(samples: Samples, bits: int, full_range: bool) -> Plane:
    """Luma samples (H, W) to float32 as in training: black is 16/255, white 235/255.

    That is the studio range of 8 bits as it stands, so what is blacker than black or whiter
    than white stays inside [0, 1] (10 bits: to 1.003).
    """
    if full_range:
        white = 2**bits - 1
        return samples.astype(np.float32) * np.float32(EXCURSION / 255 / white) + BLACK / 255
    return samples.astype(np.float32) * np.float32(1 / (255 << (bits - 8)))


def luma_from_network(luma: Plane, bits: int, full_range: bool) -> Samples:
    """The inverse of `luma_to_network`; clipped only to what `bits` can hold."""
    if full_range:
        white = 2**bits - 1
        return _rounded((luma - BLACK / 255) * np.float32(white * 255 / EXCURSION), bits)
    return _rounded(luma * np.float32(255 << (bits - 8)), bits)


def resize_chroma(
    samples: Samples, shape: tuple[int, int], scales: tuple[float, float], layout: Layout
) -> Samples:
    """Resize Cb or Cr to `shape`: bicubically (OpenCV's kernel, a = -0.75), or smaller antialiased.

    Siting is MPEG-2's, H.264's default ("left"): a subsampled chroma sample lies on the left
    of its luma samples, and vertically between them. So it is where the luma is afterwards.

    Args:
        samples: (H, W).
        shape: of the result.
        scales: by which the luma was resized, down and across.
        layout: of both.
    """
    assert layout.subsampling is not None
    # Sample i lies at luma sample f·i + p: p = 0 on the left, (f - 1)/2 between. Luma sample j of
    # the result lies at (j + 0.5)/s - 0.5, so sample k of the result is sample
    # k/s + (1/s - 1)·(p + 0.5)/f of the source.
    anchors = 0.5, 0.5 / layout.subsampling[0]
    plane = samples.astype(np.float32)
    if min(scales) < 1:
        bands = resize_planes([plane[None]], (plane.shape[0], plane.shape[1]), shape, anchors)
        return _rounded(np.concatenate(list(bands), axis=1)[0], layout.bits)
    (down, across), (v, h) = scales, anchors
    matrix = np.array([[1 / across, 0, (1 / across - 1) * h], [0, 1 / down, (1 / down - 1) * v]])
    enlarged = cv2.warpAffine(
        plane, matrix, (shape[1], shape[0]),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    return _rounded(np.asarray(enlarged, np.float32), layout.bits)


def _rounded(plane: Plane, bits: int) -> Samples:
    return np.rint(plane).clip(0, 2**bits - 1).astype(np.uint8 if bits == 8 else "<u2")
