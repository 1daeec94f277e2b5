"""Frames as they are decoded: which are refused, and what may not change between them."""

import shlex
from pathlib import Path

import av

from hfdn_deploy.errors import InputError
from hfdn_deploy.video.colours import is_full_range


def command(path: Path, options: str, result: str) -> str:
    """A command line for a shell that makes what can be upscaled of a video."""
    return f"ffmpeg -i {shlex.quote(str(path))} {options} {result}"


def nearest(format: av.VideoFormat) -> str:
    """The format in which the least is lost, of those that can be upscaled; without alpha."""
    if format.name.startswith(("gray", "mono", "ya")):
        chroma = "gray"
    elif format.is_rgb or format.has_palette:
        chroma = "yuv444p"
    else:
        fine_across, fine_down = format.chroma_width(8) == 8, format.chroma_height(8) > 4
        chroma = "yuv444p" if fine_across else "yuv422p" if fine_down else "yuv420p"
    return chroma + ("10le" if max(component.bits for component in format.components) > 8 else "")


def has_alpha(format: av.VideoFormat) -> bool:
    """Whether frames of a format can be transparent; those with a palette rarely are."""
    return any(component.is_alpha for component in format.components)


class Uniform:
    """Checks that all frames of a video are of the kind that its first is."""

    def __init__(self, path: Path, video: av.VideoStream) -> None:
        self._path = path
        self._video = video
        self._first: tuple[str, ...] = ()

    def check(self, frame: av.VideoFrame) -> None:
        """Refuse a frame that is transparent or of another kind than the first.

        Raises:
            InputError: one of these.
        """
        if has_alpha(frame.format):
            raise InputError(
                f"{self._path} holds {frame.format.name} frames, whose transparency cannot "
                "be kept; flatten them, or drop it: "
                + command(self._path, f"-pix_fmt {nearest(frame.format)} -c:a copy", "opaque.mkv")
            )
        kind = self._kind(frame)
        self._first = self._first or kind
        pairs = [pair for pair in zip(self._first, kind, strict=True) if len({*pair}) > 1]
        if pairs:
            before, after = map(", ".join, zip(*pairs, strict=True))
            change = f"changes from {before} to {after} at {frame.time:.3f} s"
            raise InputError(f"{self._path} {change}; cut it there.")

    def _kind(self, frame: av.VideoFrame) -> tuple[str, ...]:
        """What the result has but one of; colours by their numbers in ITU-T H.273."""
        return (
            f"{frame.width}×{frame.height} {frame.format.name}",
            "full range" if is_full_range(frame) else "studio range",
            f"matrix {frame.colorspace}",
            f"primaries {frame.color_primaries}",
            f"transfer {frame.color_trc}",
            f"pixel shape {self._video.codec_context.sample_aspect_ratio or 'unknown'}",
        )
