"""Reading a video: its streams and its frames."""

import logging
import shlex
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import av
from av.container import InputContainer
from av.stream import Disposition, Stream

from hfdn_deploy.errors import InputError
from hfdn_deploy.video.colours import is_full_range
from hfdn_deploy.video.encoding import METADATA_ERRORS, file_name
from hfdn_deploy.video.planes import LAYOUTS, Layout
from hfdn_deploy.video.whole import Owed, check_whole

logger = logging.getLogger(__name__)

_PROGRESSIVE = 1  # AV_FIELD_PROGRESSIVE; 0 is unknown, and above are the orders of fields

# Files alone, and no formats that would lead to others, such as playlists.
_TRUSTED = {"format_whitelist": "mov,matroska", "protocol_whitelist": "file"}

# What frames bring along that no encoder here takes.
_LOST = {
    "MASTERING_DISPLAY_METADATA": "HDR10's light levels",
    "CONTENT_LIGHT_LEVEL": "HDR10's light levels",
    "DYNAMIC_HDR_PLUS": "HDR10+",
    "DYNAMIC_HDR_VIVID": "HDR Vivid",
    "DOVI_METADATA": "Dolby Vision",
    "ICC_PROFILE": "the colour profile",
    "A53_CC": "closed captions inside the pictures",
    "STEREO3D": "how the two pictures of 3D lie",
    "SPHERICAL": "how the picture lies on a sphere",
}

# Decoders that conceal damage and do not mark the frame, unless told to fail.
_SILENT = ("mjpeg", "hevc")

# Of what an edit list hides, the seconds before the start that are kept: from them sound decoders
# get going (AAC: up to 2112 samples, which at 22.05 kHz are 0.096 s).
_RUN_UP = Fraction(1, 10)

Item: TypeAlias = "av.VideoFrame | av.Packet[Any]"
"""A decoded frame, or a packet of another stream."""


@dataclass(frozen=True)
class VideoSource:
    """An opened video file."""

    path: Path
    container: InputContainer
    video: av.VideoStream
    """The stream to upscale: the first that is no cover picture."""
    others: tuple[Stream, ...]
    first: av.VideoFrame
    """The first frame. It knows what the stream's header may not, such as the rotation."""
    layout: Layout
    """Of that frame, and of all, as their size and colour tags are."""
    items: Iterator[Item]
    """All frames, and the packets of the other streams, as they lie in the file."""

    @property
    def time_base(self) -> Fraction:
        """Seconds per unit of the frames' timestamps."""
        time_base = self.first.time_base
        assert time_base is not None
        return time_base

    @property
    def frame_count(self) -> int | None:
        """As the header tells or lets one estimate."""
        if self.video.frames:
            return self.video.frames
        rate, duration = self.video.average_rate, self.container.duration
        return round(rate * duration / av.time_base) if rate and duration else None


@contextmanager
def open_source(path: Path) -> Iterator[VideoSource]:
    """Open a video file.

    Raises:
        InputError: missing, truncated, damaged, without video, or with frames that cannot be
            upscaled; the items raise it too.
    """
    if not path.exists():
        raise InputError(f"{path}: No such file; check its name.")
    with _readable(path):
        container = av.open(
            file_name(path), container_options=_TRUSTED, metadata_errors=METADATA_ERRORS
        )
    with container:
        videos = [
            s for s in container.streams.video if not s.disposition & Disposition.attached_pic
        ]
        if not videos or videos[0].codec_context is None:
            raise InputError(f"{path} holds no video that can be decoded.")
        check_whole(path, container)
        video = videos[0]
        if video.codec_context.field_order > _PROGRESSIVE:
            raise _interlaced(path)
        # WebM's transparency is a second video inside the first, which decoders pass over.
        if video.metadata.get("alpha_mode", video.metadata.get("ALPHA_MODE")) == "1":
            raise InputError(f"{path} is transparent, which cannot be kept; flatten it first.")
        # Frames in parallel, not only slices of one.
        video.thread_type = "AUTO"
        if video.codec_context.name in _SILENT:
            video.codec_context.options = {"err_detect": "explode"}
        others = tuple(s for s in container.streams if s is not video)
        items = _lasting(_items(path, container, video, others), video)
        head: list[Item] = []
        for item in items:
            head.append(item)
            if isinstance(item, av.VideoFrame):
                layout = LAYOUTS[item.format.name]
                yield VideoSource(path, container, video, others, item, layout, chain(head, items))
                return
        raise InputError(f"{path} holds no frame that can be decoded.")


def command(path: Path, options: str, result: str) -> str:
    """A command line for a shell that makes what can be upscaled of a video."""
    return f"ffmpeg -i {shlex.quote(str(path))} {options} {result}"


def _nearest(format: av.VideoFormat) -> str:
    """The format in which the least is lost, of those that can be upscaled; without alpha."""
    deep = "10le" if max(component.bits for component in format.components) > 8 else ""
    chroma = format.chroma_width(8), format.chroma_height(8)
    name = {(8, 8): "yuv444p", (4, 8): "yuv422p"}.get(chroma, "yuv420p")
    return ("gray" if format.name.startswith("gray") else name) + deep


def _interlaced(path: Path) -> InputError:
    return InputError(
        f"{path} is interlaced, and upscaling would mix its fields; deinterlace it first: "
        + command(path, "-vf bwdif -c:a copy", "progressive.mkv")
    )


def _check_frame(frame: av.VideoFrame, path: Path) -> None:
    """Refuse a frame that cannot be upscaled.

    Raises:
        InputError: it is interlaced, of another pixel format, without a timestamp, or damaged.
    """
    if frame.is_corrupt:
        raise InputError(f"{path} is damaged at {frame.time} s; copy it anew.")
    name = frame.format.name
    if name not in LAYOUTS:
        raise InputError(
            f"{path} holds {name} frames, which cannot be upscaled as they are; convert them: "
            + command(path, f"-pix_fmt {_nearest(frame.format)} -c:a copy", "converted.mkv")
        )
    if frame.interlaced_frame:
        raise _interlaced(path)
    if frame.pts is None:
        raise InputError(f"{path} holds a frame without a timestamp; remux it with ffmpeg first.")


def _kind(frame: av.VideoFrame, video: av.VideoStream) -> tuple[str, ...]:
    """What the result has but one of; colours by their numbers in ITU-T H.273."""
    return (
        f"{frame.width}×{frame.height} {frame.format.name}",
        "full range" if is_full_range(frame) else "studio range",
        f"matrix {frame.colorspace}",
        f"primaries {frame.color_primaries}",
        f"transfer {frame.color_trc}",
        f"pixel shape {video.codec_context.sample_aspect_ratio or 'unknown'}",
    )


def _changed(
    path: Path, first: tuple[str, ...], kind: tuple[str, ...], frame: av.VideoFrame
) -> InputError:
    pairs = [pair for pair in zip(first, kind, strict=True) if len({*pair}) > 1]
    before, after = map(", ".join, zip(*pairs, strict=True))
    return InputError(
        f"{path} changes from {before} to {after} at {frame.time:.3f} s; cut it there."
    )


def _items(
    path: Path, container: InputContainer, video: av.VideoStream, others: tuple[Stream, ...]
) -> Iterator[Item]:
    owed = Owed(path, video.codec_context.name)
    heard: set[int] = set()
    first: tuple[str, ...] = ()
    lost: set[str] = set()
    with _readable(path):
        for packet in container.demux(video, *others):
            if packet.is_corrupt:
                raise InputError(f"{path} is damaged or truncated; copy it anew.")
            if packet.stream is video:
                owed.add(packet)
                for frame in video.decode(packet):
                    _check_frame(frame, path)
                    owed.settle(frame)
                    kind = _kind(frame, video)
                    if (first := first or kind) != kind:
                        raise _changed(path, first, kind, frame)
                    for name in {_LOST[key] for key in _LOST if key in frame.side_data} - lost:
                        logger.warning("%s: %s: cannot be kept and is left out.", path, name)
                        lost.add(name)
                    yield frame
            # At the end come packets of nothing, which flush decoders.
            elif packet.size:
                if not packet.is_discard:
                    heard.add(packet.stream_index)
                elif _is_hidden(packet, heard):
                    continue
                yield packet
        owed.settle(None)


def _is_hidden(packet: "av.Packet[Any]", begun: Collection[int]) -> bool:
    """Whether a packet that edit lists discard is more than a run-up to the start of its stream.

    Between two segments it would lie earlier than the packet before it, which no muxer takes.
    """
    start = packet.stream.start_time
    if packet.stream_index in begun or packet.pts is None or start is None:
        return True
    return bool((start - packet.pts) * packet.time_base > _RUN_UP)


def _lasting(items: Iterable[Item], video: av.VideoStream) -> Iterator[Item]:
    """Have every frame last until the next: an MP4 tells durations in the order of decoding."""
    last: av.VideoFrame | None = None
    for item in items:
        if isinstance(item, av.Packet):
            yield item
            continue
        if last is not None:
            _last_until(last, item.pts)
            yield last
        last = item
    if last is not None:
        if video.start_time is not None and video.duration is not None:
            _last_until(last, video.start_time + video.duration)
        yield last


def _last_until(frame: av.VideoFrame, end: int | None) -> None:
    if frame.pts is not None and end is not None and end > frame.pts:
        frame.duration = end - frame.pts


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except av.FFmpegError as error:
        raise InputError(
            f"{path} cannot be decoded: {error.strerror}; it is damaged, truncated or no video."
        ) from None
