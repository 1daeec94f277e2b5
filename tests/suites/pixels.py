"""Comparison of pixels."""

from typing import Any

import numpy as np

from tests.suites import decoders


def turned(pixels: Any, orientation: int) -> Any:
    """Apply EXIF's orientation: flip, then turn by quarters (EXIF 2.32, 4.6.4)."""
    flipped, quarters = {
        1: (0, 0), 2: (1, 0), 3: (0, 2), 4: (1, 2), 5: (1, 1), 6: (0, 3), 7: (1, 3), 8: (0, 1),
    }[orientation]  # fmt: skip
    return np.rot90(pixels[:, ::-1] if flipped else pixels, quarters)


def canonical(image: Any) -> Any:
    """Convert an image of this project to RGBA as in `decoders.Decoded`."""
    full = 1.0 if image.dtype.kind == "f" else float(np.iinfo(image.dtype).max)
    return decoders.rgba(image, full)


def compare(one: Any, other: Any, tolerance: float, *, mean: bool = False) -> str | None:
    """Return how two images differ; None if the difference is within the tolerance.

    Differences of colours are weighted by the opacity of the pixel.

    Args:
        one, other: (H, W, 4) as in `decoders.Decoded`.
        tolerance: largest difference of any value, in levels of 255.
        mean: whether the tolerance applies to the root mean square instead.
    """
    if one.shape != other.shape:
        return f"{one.shape[1]}×{one.shape[0]}, not {other.shape[1]}×{other.shape[0]}"
    off = np.abs(one - other) * (255 / decoders.FULL)
    off[..., :3] *= np.minimum(one[..., 3:], other[..., 3:]) / decoders.FULL
    off = np.nan_to_num(off, nan=0.0, posinf=0.0)
    value = float(np.sqrt(np.mean(off**2))) if mean else float(off.max(initial=0.0))
    if value <= tolerance + 1e-6:
        return None
    share = np.mean(off.max(axis=2) > tolerance + 1e-6)
    return f"{'RMS ' if mean else 'up to '}{value:.3f} levels off, {share:.1%} of the pixels"
