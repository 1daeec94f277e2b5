"""Writing a video: the encoder, and everything that is kept beside the pixels."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.codec.context import Flags
from av.container import OutputContainer
from av.stream import AttachmentStream, Discard, Disposition, Stream

from hfdn_deploy.errors import BackendError, InputError
from hfdn_deploy.video.source import (
    FULL_RANGE,
    METADATA_ERRORS,
    Item,
    VideoSource,
    command,
    file_name,
    is_full_range,
)

logger = logging.getLogger(__name__)

_MUXERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}

# Encoder and options. Little is lost, for whoever edits or compresses the result further.
# Without B-frames, which make MP4 lose durations where the frame rate varies.
_H264 = ("libx264", {"crf": "17", "preset": "medium", "bf": "0"})
_VP9 = ("libvpx-vp9", {"crf": "20", "deadline": "good", "cpu-used": "4", "row-mt": "1"})

# What describes the file that was read, not the one that is written.
_STALE = ("major_brand", "minor_version", "compatible_brands", "encoder")
_LANGUAGE = ("language",)
_KEPT_OF_STREAMS = (*_LANGUAGE, "title", "handler_name")


@dataclass(frozen=True)
class Sink:
    """A video file that is being written."""

    container: OutputContainer
    video: av.VideoStream
    copies: dict[int, Stream]
    """The streams that are copied, by their index in the source."""

    def write(self, item: Item) -> None:
        """Encode a frame, or copy a packet if its stream is kept."""
        if isinstance(item, av.VideoFrame):
            self.container.mux(self.video.encode(item))
        elif item.stream_index in self.copies:
            item.stream = self.copies[item.stream_index]
            self.container.mux(item)

    def finish(self) -> None:
        """Write what the encoder still holds, and the end of the file."""
        self.container.mux(self.video.encode())
        self.container.close()


@contextmanager
def open_sink(
    temporary: Path, target: Path, source: VideoSource, scale: int, keep_metadata: bool
) -> Iterator[Sink]:
    """Open the file to write.

    Args:
        temporary: where it is written.
        target: what it will be called: the suffix chooses the container.
        source: where the other streams, the metadata and the chapters come from; frames are
            encoded like its first, `scale` times as large.
        scale: upscaling factor.
        keep_metadata: keep titles, chapters, places, dates and the like. Languages stay anyway.

    Raises:
        InputError: the container cannot hold the sound, or the codec such frames or pixels.
        BackendError: this build of PyAV lacks the encoder.
        OSError: the disk refuses.
    """
    muxer = _MUXERS[target.suffix.lower()]
    options = {}
    if muxer in ("mp4", "mov"):
        # Or the muxer would choose another time base.
        options["video_track_timescale"] = str(source.time_base.denominator)
    with _writable(target, source):
        container = av.open(
            file_name(temporary),
            "w",
            muxer,
            container_options=options,
            metadata_errors=METADATA_ERRORS,
        )
        try:
            if keep_metadata:
                metadata = source.container.metadata.items()
                container.metadata.update({k: v for k, v in metadata if k.lower() not in _STALE})
                container.set_chapters(source.container.chapters())
            video = _add_video(container, target, source, scale)
            _keep_facts(source.video, video, keep_metadata)
            copies = {}
            for stream in source.others:
                if isinstance(stream, AttachmentStream) and muxer == "matroska" and keep_metadata:
                    # Fonts of the subtitles, say; they have no packets.
                    container.add_attachment(stream.name or "", stream.mimetype or "", stream.data)
                elif copy := _add_copy(container, target, source, stream):
                    _keep_facts(stream, copy, keep_metadata)
                    copies[stream.index] = copy
            yield Sink(container, video, copies)
        finally:
            # After an error this frees it; what it holds is thrown away.
            with suppress(av.FFmpegError):
                container.close()


def _add_video(
    container: OutputContainer, target: Path, source: VideoSource, scale: int
) -> av.VideoStream:
    first, layout = source.first, source.layout
    name, options = _VP9 if container.format.name == "webm" else _H264
    if name not in av.codecs_available:
        raise BackendError(f"this PyAV lacks {name}; install its wheel: pip install av")
    width, height = scale * first.width, scale * first.height
    if layout.format not in [f.name for f in av.Codec(name, "w").video_formats or ()]:
        raise InputError(f"{target}: {name} cannot hold {layout.format} frames; choose .mkv.")
    across, down = layout.subsampling or (1, 1)
    if name == "libx264" and (width % across or height % down):
        raise InputError(
            f"{target}: H.264 cannot hold {width}×{height} in {layout.format}, which needs even "
            "sizes; choose .webm or another scale."
        )
    video = container.add_stream(name, source.video.average_rate, options=options)
    assert isinstance(video, av.VideoStream)
    video.width, video.height, video.pix_fmt = width, height, layout.format
    video.time_base = video.codec_context.time_base = source.time_base
    # Or the last frame would last as long as frames do on average.
    video.codec_context.flags |= Flags.frame_duration
    if (pixel_shape := source.video.sample_aspect_ratio) not in (None, 1):
        # H.264 itself holds it, VP9 does not, and PyAV has no way to tell the muxer.
        if name != "libx264":
            raise InputError(
                f"{target}: the pixels of {source.path} are no squares ({pixel_shape}), which "
                f"cannot be written to {target.suffix}; choose .mkv."
            )
        video.sample_aspect_ratio = pixel_shape
    video.color_range = FULL_RANGE if is_full_range(first) else first.color_range
    video.colorspace = first.colorspace
    video.color_primaries = first.color_primaries
    video.color_trc = first.color_trc
    side_data: Any = first.side_data
    if "DISPLAYMATRIX" in side_data:
        matrix = np.frombuffer(side_data["DISPLAYMATRIX"], np.int32)
        video.set_display_matrix(matrix.tolist())
    return video


def _add_copy(
    container: OutputContainer, target: Path, source: VideoSource, stream: Stream
) -> Stream | None:
    """A stream to copy packets to, or None, with a message, if this one is left out."""
    try:
        if stream.type in ("audio", "subtitle"):
            return container.add_stream_from_template(stream)
    except ValueError:
        if stream.type == "audio":
            raise InputError(
                f"{target}: {target.suffix} cannot hold {_sound(target, source, [stream])}."
            ) from None
    # What names the chapters in an MP4 is kept as chapters.
    if stream.discard != Discard.all or not source.container.chapters():
        cover = stream.disposition & Disposition.attached_pic
        kind = "cover picture" if cover else stream.type
        logger.warning("%s: stream %d (%s) is left out.", source.path, stream.index, kind)
    return None


def _sound(target: Path, source: VideoSource, streams: Sequence[Stream]) -> str:
    codecs = sorted({s.codec_context.name if s.codec_context else "unknown" for s in streams})
    codec = "libopus" if target.suffix.lower() in (".webm", ".mkv") else "aac"
    convert = command(source.path, f"-c:v copy -c:a {codec}", "converted.mkv")
    return f"the sound of {source.path} ({', '.join(codecs)}), convert it first: {convert}"


def _keep_facts(stream: Stream, copy: Stream, keep_metadata: bool) -> None:
    copy.disposition = stream.disposition
    # By the language, players choose the sound.
    kept = _KEPT_OF_STREAMS if keep_metadata else _LANGUAGE
    copy.metadata.update({k: v for k, v in stream.metadata.items() if k in kept})


@contextmanager
def _writable(target: Path, source: VideoSource) -> Iterator[None]:
    """What the disk refuses stays an OSError, which `replaced` explains."""
    try:
        yield
    except av.FFmpegError as error:
        if isinstance(error, OSError):
            raise
        reason = f"{target} cannot be encoded: {error.strerror};"
        # Of some sound a container finds out only then.
        if sounds := [stream for stream in source.others if stream.type == "audio"]:
            reason += f" if {target.suffix} cannot hold {_sound(target, source, sounds)}, or"
        raise InputError(f"{reason} choose .mkv.") from None
