"""Colour tags (ITU-T H.273), and what players assume where there are none."""

from dataclasses import astuple, dataclass

import av

FULL_RANGE = 2
"""AVCOL_RANGE_JPEG: black is 0."""
_UNSPECIFIED = 2


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
