"""Colour tags (ITU-T H.273), and the tags that players assume where they are missing."""

from dataclasses import astuple, dataclass

import av
from av.video.reformatter import ColorRange, Colorspace, Interpolation

FULL_RANGE = 2
"""AVCOL_RANGE_JPEG: black is 0."""
_UNSPECIFIED = 2
SRGB = 13
"""The transfer function of sRGB."""

EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
"""Flags to convert pixel formats without the approximations that swscale uses by default."""


@dataclass(frozen=True)
class Colours:
    """The colour tags of a video, as numbers of ITU-T H.273; 2 is unspecified."""

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
    """Return whether black is 0; untagged video is in studio range."""
    return frame.color_range == FULL_RANGE or frame.format.name.startswith("yuvj")


def assumed(width: int, height: int) -> Colours:
    """Return the colour tags that players assume for an untagged video of a size in pixels.

    This is mpv's rule (libplacebo); VLC and GStreamer use the height alone. Browsers put the limit
    at 720 lines, and choose all tags by the size if one of them is missing.
    """
    if width >= 1280 or height > 576:
        return Colours(1, 1, 1)  # BT.709
    # BT.601 for 625 and 525 lines; other heights are not television standards.
    return {576: Colours(5, 5, 6), 480: Colours(6, 6, 6), 486: Colours(6, 6, 6)}.get(
        height, Colours(6, 1, 6)
    )


def yuv_of_rgb(frame: av.VideoFrame, format: str) -> av.VideoFrame:
    """Convert an RGB frame to tagged YUV in studio range.

    The matrix is the one that players assume at that size, so players that ignore tags are right,
    too. Untagged RGB is taken for sRGB.
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
    """Return the tags with which players show a resized video in unchanged colours.

    Missing tags are added if players take one of the sizes (width, height), `before` and `after`,
    for SD and the other for HD.
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
