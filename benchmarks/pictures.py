"""Images that show methods side by side."""

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from hfdn_deploy.bench import crop_to_multiple, degrade, psnr, to_levels

Luma = NDArray[np.uint8]
Picture = NDArray[np.uint8]

# Largest side of the crops that `picture` shows, in pixels of the original.
CROP = 96

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


def picture(
    images: Mapping[str, Luma], scale: int, outputs: Mapping[str, Mapping[str, Luma]]
) -> tuple[str, Luma]:
    """Show all methods side by side on the crop where bicubic upscaling and HFDN differ most.

    Args:
        images: originals by name.
        scale: upscaling factor.
        outputs: luma as from `upscale_set`, by method, with "bicubic" and a name with HFDN.

    Returns:
        The image's name and a captioned row of panels.
    """
    side = min(CROP, *(min(image.shape) for image in images.values())) // scale * scale
    best, where = -1.0, ("", 0, 0)
    hfdn = next(results for method, results in outputs.items() if method.startswith("HFDN"))
    for name in images:
        difference = cv2.absdiff(outputs["bicubic"][name], hfdn[name])
        mean = cv2.boxFilter(difference, cv2.CV_32F, (side, side), anchor=(0, 0))
        height, width = difference.shape
        valid = mean[: height - side + 1, : width - side + 1]
        if valid.max() > best:
            best = float(valid.max())
            row, column = np.unravel_index(valid.argmax(), valid.shape)
            where = (name, int(row) // scale * scale, int(column) // scale * scale)
    name, top, left = where
    hr = crop_to_multiple(images[name], scale)
    panels = {"low resolution": _crop(to_levels(degrade(hr, scale)), top, left, side, scale)}
    for method, result in outputs.items():
        caption = f"{method} {psnr(result[name], hr, scale):.2f} dB"
        panels[caption] = _crop(result[name], top, left, side)
    panels["original"] = _crop(hr, top, left, side)
    return name, side_by_side({k: np.dstack([v] * 3) for k, v in panels.items()}, zoom=3)


def _crop(image: Luma, top: int, left: int, side: int, factor: int = 1) -> Luma:
    """Return the crop at `top`, `left` of the original, from an image `factor` times smaller."""
    return image[top // factor :, left // factor :][: side // factor, : side // factor]
