"""Images that show methods side by side."""

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]

GAP = 8
CAPTION_HEIGHT = 40


def side_by_side(panels: Mapping[str, Picture], zoom: int) -> Picture:
    """Return one row of captioned panels, all shown at the size of the largest.

    Args:
        panels: (H, W, 3) RGB by caption; smaller panels are enlarged by repeating pixels, so
            their sizes must divide that of the largest.
        zoom: integer factor by which the row is enlarged, also by repeating pixels.

    Returns:
        (H', W', 3) RGB on white.
    """
    height, width = (zoom * max(p.shape[axis] for p in panels.values()) for axis in (0, 1))
    columns = []
    for caption, panel in panels.items():
        shown = cv2.resize(panel, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        column = np.full((height + CAPTION_HEIGHT + GAP, width + 2 * GAP, 3), 255, np.uint8)
        column[GAP : GAP + height, GAP : GAP + width] = shown
        origin = (GAP, height + CAPTION_HEIGHT)
        cv2.putText(
            column, caption, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 1, cv2.LINE_AA
        )
        columns.append(column)
    return np.hstack(columns)
