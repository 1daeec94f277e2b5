"""Checks of decoded frames: which are refused, and what must not change between them."""

import shlex
from pathlib import Path

import av

from hfdn_deploy.errors import InputError
from hfdn_deploy.video.colours import is_full_range


def command(path: Path, options: str, result: str) -> str:
    """Return a shell command that converts a video to one that can be upscaled."""
    return f"ffmpeg -i {shlex.quote(str(path))} {options} {result}"


def nearest(format: av.VideoFormat) -> str:
    """Return the supported pixel format, without alpha, that loses the least."""
    if format.name.startswith(("gray", "mono", "ya")):
        chroma = "gray"
    elif format.is_rgb or format.has_palette:
        chroma = "yuv444p"
    else:
        fine_across, fine_down = format.chroma_width(8) == 8, format.chroma_height(8) > 4
        chroma = "yuv444p" if fine_across else "yuv422p" if fine_down else "yuv420p"
    return chroma + ("10le" if max(component.bits for component in format.components) > 8 else "")


def has_alpha(format: av.VideoFormat) -> bool:
    """Return whether a pixel format has alpha, palettes not counted: they rarely have it."""
    return any(component.is_alpha for component in format.components)


class Uniform:
    """A check that all frames of a video have the properties of its first frame."""

    def __init__(self, path: Path, video: av.VideoStream) -> None:
        self._path = path
        self._video = video
        self._first: tuple[str, ...] = ()

    def check(self, frame: av.VideoFrame) -> None:
        """Refuse a frame that has transparency or differs from the first.

        Raises:
            InputError: the frame has alpha, or its size, format, range, colour tags or pixel
                shape differ from those of the first frame.
        """
        if has_alpha(frame.format):
            raise InputError(
                f"{self._path} has {frame.format.name} frames, whose transparency cannot be "
                "kept; flatten them, or drop the transparency: "
                + command(self._path, f"-pix_fmt {nearest(frame.format)} -c:a copy", "opaque.mkv")
            )
        kind = self._kind(frame)
        self._first = self._first or kind
        pairs = [pair for pair in zip(self._first, kind, strict=True) if len({*pair}) > 1]
        if pairs:
            before, after = map(", ".join, zip(*pairs, strict=True))
            change = f"changes from {before} to {after} at {frame.time:.3f} s"
            raise InputError(f"{self._path} {change}; cut the file there.")

    def _kind(self, frame: av.VideoFrame) -> tuple[str, ...]:
        """Return the properties that an output has only one of; colours as ITU-T H.273 numbers."""
        return (
            f"{frame.width}×{frame.height} {frame.format.name}",
            "full range" if is_full_range(frame) else "studio range",
            f"matrix {frame.colorspace}",
            f"primaries {frame.color_primaries}",
            f"transfer {frame.color_trc}",
            f"pixel shape {self._video.codec_context.sample_aspect_ratio or 'unknown'}",
        )
