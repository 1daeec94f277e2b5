"""Descriptions of video files: `describe_video`, for which PyAV must be installed."""

from enum import IntEnum
from pathlib import Path
from typing import Any

import av
from av.stream import Stream
from av.video.reformatter import ColorPrimaries, ColorTrc

from hfdn_deploy.errors import InputError
from hfdn_deploy.video.colours import FULL_RANGE, Colours
from hfdn_deploy.video.source import VideoSource, open_container, open_source

# By their numbers in ITU-T H.273; PyAV only has the scaler's names of matrices.
_MATRICES = {
    0: "rgb", 1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "ycgco",
    9: "bt2020nc", 10: "bt2020c", 14: "ictcp",
}  # fmt: skip
_UNSPECIFIED = 2


def describe_header(path: Path) -> dict[str, Any]:
    """Implement `describe_video_header`: same arguments, results and errors."""
    with open_container(path) as (container, video):
        duration, rate = container.duration, video.guessed_rate
        context = video.codec_context
        return {
            "container": container.format.name,
            "codec": context.codec.canonical_name,
            "bytes": path.stat().st_size,
            "width": context.width,
            "height": context.height,
            "frames": video.frames or None,
            "rate": rate and round(float(rate), 3),
            "seconds": duration and round(duration / av.time_base, 3),
            "pixel_format": context.pix_fmt,
            "sound": [_stream(s) for s in container.streams.audio],
            "subtitles": [_stream(s) for s in container.streams.subtitles],
        }


def describe(path: Path) -> dict[str, Any]:
    """Implement `describe_video`: same arguments, results and errors."""
    facts = describe_header(path)
    try:
        with open_source(path) as source:
            return {**facts, **_of_frames(source), "refused": None}
    except InputError as error:
        return {**facts, "changes": [], "refused": str(error)}


def _of_frames(source: VideoSource) -> dict[str, Any]:
    first, told = source.first, source.video.codec_context.pix_fmt
    tags = Colours.of(first)
    changes = []
    if source.deinterlaced:
        changes.append("deinterlaced")
    if told is not None and told != source.layout.format:
        changes.append(f"{told} to {source.layout.format}")
    shape = source.video.sample_aspect_ratio
    return {
        "pixel_shape": str(shape) if shape else None,
        "rotation": first.rotation,
        "colours": {
            "matrix": _MATRICES.get(tags.matrix),
            "primaries": _name(ColorPrimaries, tags.primaries),
            "transfer": _name(ColorTrc, tags.transfer),
            "range": {1: "studio", FULL_RANGE: "full"}.get(first.color_range),
        },
        "changes": changes,
    }


def _name(tags: type[IntEnum], number: int) -> str | None:
    known = number != _UNSPECIFIED and number in list(tags)
    return tags(number).name.lower() if known else None


def _stream(stream: Stream) -> str:
    context: Any = stream.codec_context
    parts = [context.codec.canonical_name if context else "unknown"]
    if stream.type == "audio" and context:
        parts += [f"{context.sample_rate} Hz", context.layout.name]
    return " ".join(filter(None, [*parts, stream.language]))
