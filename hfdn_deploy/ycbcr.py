"""Conversion between RGB and YCbCr: ITU-R BT.601 in studio range, as MATLAB's rgb2ycbcr."""

import numpy as np

YCBCR = np.array([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]])
"""Rows Y, Cb, Cr on the 8-bit scale for R, G, B in [0, 1]."""
_OFFSET = np.array([16.0, 128.0, 128.0])
_INVERSE = np.linalg.inv(YCBCR / 255)

FROM_RGB = np.column_stack([YCBCR, _OFFSET]) / 255
"""Rows Y, Cb, Cr in [0, 1] for R, G, B in [0, 1] and 1."""
TO_RGB = np.column_stack([_INVERSE, -_INVERSE @ (_OFFSET / 255)])
"""Rows R, G, B for Y, Cb, Cr and 1."""
