"""Samples with a depth other than 8 or 16 bits."""

import numpy as np

from hfdn_deploy.images.rows import Pixels


def stretched(pixels: Pixels, bits: int, dtype: str = "uint16") -> Pixels:
    """Scale integers from [0, 2^bits - 1] to the full range of a dtype, rounded to nearest.

    Args:
        pixels: of any shape, from 0 to 2^bits - 1.
        bits: 1 to 16.
        dtype: uint8 or uint16.
    """
    table = np.linspace(0, np.iinfo(dtype).max, 2**bits).round().astype(dtype)
    return np.take(table, pixels, mode="clip")
