"""Encoding of RGB frames: `write_frames`, for which PyAV must be installed."""

import logging
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from hfdn_deploy.atomic import replaced
from hfdn_deploy.errors import InputError
from hfdn_deploy.images import Image
from hfdn_deploy.video.codecs import VideoOptions
from hfdn_deploy.video.colours import yuv_of_rgb
from hfdn_deploy.video.encoding import Encoder, fits_evenly, open_container, writable

logger = logging.getLogger(__name__)

# It represents hundredths (GIF) and thousandths (WebP) of a second, 1/24, 1/25 and 1/30 exactly.
_TIME_BASE = Fraction(1, 90_000)


def encode_frames(
    target: Path,
    frames: Iterable[tuple[Image, Fraction]],
    size: tuple[int, int],
    options: VideoOptions,
    *,
    overwrite: bool,
) -> int:
    """Implement `write_frames`: same arguments, results and errors."""
    height, width = size
    format = "yuv420p"
    if options.codec_for(target).even and not fits_evenly(av.VideoFormat(format), width, height):
        logger.warning(
            "%s: %d×%d is odd, so chroma is not subsampled and some players cannot show the "
            "video; --codec vp9 or av1 can subsample it.", target, width, height,
        )  # fmt: skip
        format = "yuv444p"
    like = yuv_of_rgb(av.VideoFrame(width, height, "rgb24"), format)
    like.time_base = _TIME_BASE
    number, now, flattened = 0, Fraction(0), False
    with (
        replaced(target, overwrite=overwrite) as temporary,
        writable(target),
        open_container(temporary, target, _TIME_BASE) as container,
    ):
        encoder = Encoder(container, target, options, like, Fraction(25))
        encoder.open()
        for pixels, seconds in frames:
            if pixels.ndim == 3 and pixels.shape[2] == 4 and not flattened:
                logger.warning("%s: transparency is not kept; the background is white.", target)
                flattened = True
            rgb = av.VideoFrame.from_ndarray(_opaque(pixels), "rgb24")
            frame = yuv_of_rgb(rgb, format)
            frame.time_base, frame.pts = _TIME_BASE, round(now / _TIME_BASE)
            now += seconds
            frame.duration = round(now / _TIME_BASE) - frame.pts
            container.mux(encoder.encode(frame))
            number += 1
        if not number:
            raise InputError(f"{target} would have no frames; pass at least one.")
        container.mux(encoder.encode(None))
        container.close()
    return number


def _opaque(pixels: Image) -> NDArray[np.uint8]:
    """Return a grey, RGB or RGBA image as RGB, on white."""
    if pixels.ndim == 2:
        return np.repeat(pixels[..., None], 3, 2)
    if pixels.shape[2] == 3:
        return np.ascontiguousarray(pixels)
    colour, alpha = pixels[..., :3].astype(np.uint16), pixels[..., 3:].astype(np.uint16)
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
