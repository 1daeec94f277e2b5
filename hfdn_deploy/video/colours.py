"""Colour tags (ITU-T H.273), and what players assume where there are none."""

from dataclasses import astuple, dataclass

import av
from av.video.reformatter import ColorRange, Colorspace, Interpolation

FULL_RANGE = 2
"""AVCOL_RANGE_JPEG: black is 0."""
_UNSPECIFIED = 2
SRGB = 13
"""The transfer function of sRGB."""

EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
"""How pixel formats are converted: without the short cuts that swscale takes by default."""


@dataclass(frozen=True)
class Colours:
    """How a video's numbers are colours, by the numbers in ITU-T H.273; 2 is unspecified."""

    matrix: int
    primaries: int
    transfer: int

    @classmethod
    def of(cls, frame: av.VideoFrame) -> "Colours":
        """Return a frame's tags."""
        return cls(frame.colorspace, frame.color_primaries, frame.color_trc)

    def write_to(self, frame: "av.VideoFrame | av.VideoStream") -> None:
        """Tag a frame or a stream."""
        frame.colorspace, frame.color_primaries = self.matrix, self.primaries
        frame.color_trc = self.transfer


def is_full_range(frame: av.VideoFrame) -> bool:
    """Whether black is 0; where nothing says so, video is in studio range."""
    return frame.color_range == FULL_RANGE or frame.format.name.startswith("yuvj")


def assumed(width: int, height: int) -> Colours:
    """Return what players take an untagged video for.

    mpv (libplacebo) does exactly this, VLC and GStreamer by the height alone. Browsers have their
    border at 720 lines, and decide all of it by the size if one tag is missing.
    """
    if width >= 1280 or height > 576:
        return Colours(1, 1, 1)  # BT.709
    # BT.601 for 625 and 525 lines; other heights are none of television's.
    return {576: Colours(5, 5, 6), 480: Colours(6, 6, 6), 486: Colours(6, 6, 6)}.get(
        height, Colours(6, 1, 6)
    )


def yuv_of_rgb(frame: av.VideoFrame, format: str) -> av.VideoFrame:
    """Convert an RGB frame to YUV of studio range, and tag it.

    The matrix is what players assume at that size, which is right where a player ignores tags.
    Without tags, RGB is sRGB.
    """
    matrix = assumed(frame.width, frame.height).matrix
    result = frame.reformat(
        format=format,
        dst_colorspace=Colorspace.ITU709 if matrix == 1 else Colorspace.ITU601,
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
        interpolation=EXACT,
    )
    tags = Colours.of(frame)
    primaries = 1 if tags.primaries == _UNSPECIFIED else tags.primaries
    Colours(matrix, primaries, SRGB if tags.transfer == _UNSPECIFIED else tags.transfer).write_to(
        result
    )
    result.color_range = ColorRange.MPEG
    return result


def kept(colours: Colours, before: tuple[int, int], after: tuple[int, int]) -> Colours:
    """Return the tags with which players show a video after a change of size as before.

    Tags that are missing are added where players take (width, height) `before` for SD and `after`
    for HD or the other way round.
    """
    old, new = assumed(*before), assumed(*after)
    if (old.matrix == 1) == (new.matrix == 1):
        return colours
    return Colours(
        *(
            convention if tag == _UNSPECIFIED else tag
            for tag, convention in zip(astuple(colours), astuple(old), strict=True)
        )
    )
