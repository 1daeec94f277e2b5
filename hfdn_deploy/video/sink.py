"""Writing a video: the encoder, and everything that is kept beside the pixels."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
from av.container import OutputContainer
from av.stream import AttachmentStream, Discard, Disposition, Stream

from hfdn_deploy.errors import InputError
from hfdn_deploy.video.checks import command
from hfdn_deploy.video.codecs import VideoOptions
from hfdn_deploy.video.encoding import Encoder, open_container, writable
from hfdn_deploy.video.source import VideoSource
from hfdn_deploy.video.times import Item

logger = logging.getLogger(__name__)

# What describes the file that was read, not the one that is written.
_STALE = ("major_brand", "minor_version", "compatible_brands", "encoder")
_LANGUAGE = ("language",)
_KEPT_OF_STREAMS = (*_LANGUAGE, "title", "handler_name")


@dataclass(frozen=True)
class Sink:
    """A video file that is being written."""

    container: OutputContainer
    encoder: Encoder
    copies: dict[int, Stream]
    """The streams that are copied, by their index in the source."""

    def write(self, item: Item) -> None:
        """Encode a frame, or copy a packet if its stream is kept."""
        if isinstance(item, av.VideoFrame):
            self.container.mux(self.encoder.encode(item))
        elif item.stream_index in self.copies:
            item.stream = self.copies[item.stream_index]
            self.container.mux(item)

    def finish(self) -> None:
        """Write what the encoder still holds, and the end of the file."""
        self.container.mux(self.encoder.encode(None))
        self.container.close()


@contextmanager
def open_sink(
    temporary: Path,
    target: Path,
    source: VideoSource,
    like: av.VideoFrame,
    options: VideoOptions,
    keep_metadata: bool,
) -> Iterator[Sink]:
    """Open the file to write.

    Args:
        temporary: where it is written.
        target: what it will be called: the suffix chooses the container.
        source: where the other streams, the metadata and the chapters come from.
        like: has the size, format, colour tags and time base of all frames.
        options: codec and CRF.
        keep_metadata: keep titles, chapters, places, dates and the like. Languages stay anyway.

    Raises:
        InputError: the container cannot hold the sound, or the codec such frames or pixels.
        BackendError: this build of PyAV lacks the encoder.
        OSError: the disk refuses.
    """
    with (
        writable(target, _advice(target, source)),
        open_container(temporary, target, source.time_base) as container,
    ):
        if keep_metadata:
            metadata = source.container.metadata.items()
            container.metadata.update({k: v for k, v in metadata if k.lower() not in _STALE})
            container.set_chapters(source.container.chapters())
        encoder = Encoder(container, target, options, like, source.video.guessed_rate)
        _keep_shape(target, source, encoder.stream, options)
        _keep_facts(source.video, encoder.stream, keep_metadata)
        copies = {}
        attaches = container.format.name == "matroska" and keep_metadata
        for stream in source.others:
            if isinstance(stream, AttachmentStream) and attaches:
                # Fonts of the subtitles, say; they have no packets.
                container.add_attachment(stream.name or "", stream.mimetype or "", stream.data)
            elif copy := _add_copy(container, target, source, stream):
                _keep_facts(stream, copy, keep_metadata)
                copies[stream.index] = copy
        encoder.open()  # before a frame is upscaled
        yield Sink(container, encoder, copies)


def _keep_shape(
    target: Path, source: VideoSource, video: av.VideoStream, options: VideoOptions
) -> None:
    """Tell the shape of the pixels and which way is up."""
    if (pixel_shape := source.video.sample_aspect_ratio) not in (None, 1):
        codec = options.codec_for(target)
        # PyAV has no way to tell Matroska's muxer.
        if target.suffix.lower() in (".mkv", ".webm") and not codec.tells_pixel_shape:
            raise InputError(
                f"{target}: the pixels of {source.path} are no squares ({pixel_shape}), which "
                f"cannot be written with {codec.title} to {target.suffix}; choose .mp4, or .mkv "
                "and --codec h264."
            )
        video.sample_aspect_ratio = pixel_shape
    if source.display_matrix:
        video.set_display_matrix(source.display_matrix)


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


def _advice(target: Path, source: VideoSource) -> str:
    # Of some sound a container finds out only when it is written.
    sounds = [stream for stream in source.others if stream.type == "audio"]
    advice = "choose another --codec" if target.suffix.lower() == ".mkv" else "choose .mkv"
    if sounds:
        return f"if {target.suffix} cannot hold {_sound(target, source, sounds)}, or {advice}"
    return advice
