"""The planes of a YUV frame: luma to the network's scale and back, chroma resized.

Nothing is converted to RGB, so the matrix (BT.601, BT.709, ...) does not matter.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfdn_deploy.images import Plane, cv2, resize_planes

Samples = NDArray[np.unsignedinteger[Any]]

# Studio range in 8 bits (ITU-R BT.601 and BT.709): black, and the distance from black to white.
BLACK = 16
EXCURSION = 219


@dataclass(frozen=True)
class Layout:
    """How the samples of a planar format are stored."""

    format: str
    """FFmpeg's name of the format."""
    bits: int
    """Bits of a sample: 8, or 10 in the low bits of 16."""
    subsampling: tuple[int, int] | None
    """Luma samples per chroma sample, across and down; None for grey."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy type of a sample."""
        return np.dtype(np.uint8 if self.bits == 8 else "<u2")


_SUBSAMPLING = {"yuv420p": (2, 2), "yuv422p": (2, 1), "yuv444p": (1, 1), "gray": None}

# By FFmpeg's name. The formats yuvj... have 8 bits in full range.
LAYOUTS = {
    **{name: Layout(name, 8, each) for name, each in _SUBSAMPLING.items()},
    **{f"{name}10le": Layout(f"{name}10le", 10, each) for name, each in _SUBSAMPLING.items()},
    **{name.replace("yuv", "yuvj"): Layout(name, 8, each) for name, each in _SUBSAMPLING.items()},
}


def luma_to_network(samples: Samples, bits: int, full_range: bool) -> Plane:
    """Convert luma samples (H, W) to float32 as in training: black is 16/255, white 235/255.

    This is 8-bit studio range divided by 255, so samples below black or above white stay inside
    [0, 1] (10 bits: up to 1.003).
    """
    if full_range:
        white = 2**bits - 1
        return samples.astype(np.float32) * np.float32(EXCURSION / 255 / white) + BLACK / 255
    return samples.astype(np.float32) * np.float32(1 / (255 << (bits - 8)))


def luma_from_network(luma: Plane, bits: int, full_range: bool) -> Samples:
    """Invert `luma_to_network`; clip only to the range of `bits`."""
    if full_range:
        white = 2**bits - 1
        return _rounded((luma - BLACK / 255) * np.float32(white * 255 / EXCURSION), bits)
    return _rounded(luma * np.float32(255 << (bits - 8)), bits)


def resize_chroma(
    samples: Samples, shape: tuple[int, int], scales: tuple[float, float], layout: Layout
) -> Samples:
    """Resize Cb or Cr: bicubically (OpenCV's kernel, a = -0.75), antialiased if made smaller.

    Siting is MPEG-2's, H.264's default ("left"), before and after: a subsampled chroma sample lies
    at the left one of its luma samples, and vertically between them.

    Args:
        samples: the plane, (H, W).
        shape: (height, width) of the result.
        scales: the factors by which the luma was resized, down and across.
        layout: how source and result are stored.
    """
    assert layout.subsampling is not None
    # Chroma sample i lies at luma position f·i + p: p = 0 at the left, (f - 1)/2 between. Luma
    # sample j of the result lies at (j + 0.5)/s - 0.5 in the source, so chroma sample k of the
    # result lies at chroma position k/s + (1/s - 1)·(p + 0.5)/f of the source.
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
