"""Output videos: the encoder, the copied streams and the metadata."""

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

# Entries that describe the source file and would be wrong in the target.
_STALE = ("major_brand", "minor_version", "compatible_brands", "encoder")
_LANGUAGE = ("language",)
_KEPT_OF_STREAMS = (*_LANGUAGE, "title", "handler_name")


@dataclass(frozen=True)
class Sink:
    """A video file being written."""

    container: OutputContainer
    encoder: Encoder
    copies: dict[int, Stream]
    """The copied streams, by their index in the source."""

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
        temporary: the file to write.
        target: its final name; the suffix chooses the container.
        source: provides the other streams, the metadata and the chapters.
        like: a frame with the size, format, colour tags and time base of all frames.
        options: codec and CRF.
        keep_metadata: keep titles, chapters, places and dates. Languages are always kept.

    Raises:
        InputError: the container cannot hold the sound or the pixel shape, or the codec does not
            take the frames.
        BackendError: this build of PyAV lacks the encoder.
        OSError: the file cannot be written.
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
                # Attachments, such as fonts of subtitles, have no packets.
                container.add_attachment(stream.name or "", stream.mimetype or "", stream.data)
            elif copy := _add_copy(container, target, source, stream):
                _keep_facts(stream, copy, keep_metadata)
                copies[stream.index] = copy
        encoder.open()  # an unusable target must fail before a frame is upscaled
        yield Sink(container, encoder, copies)


def _keep_shape(
    target: Path, source: VideoSource, video: av.VideoStream, options: VideoOptions
) -> None:
    """Write the pixel shape and the rotation."""
    if (pixel_shape := source.video.sample_aspect_ratio) not in (None, 1):
        codec = options.codec_for(target)
        # PyAV cannot pass the pixel shape to Matroska's muxer.
        if target.suffix.lower() in (".mkv", ".webm") and not codec.tells_pixel_shape:
            raise InputError(
                f"{target}: the pixels of {source.path} are not square ({pixel_shape}), which "
                f"{target.suffix} with {codec.title} cannot store; choose .mp4, or .mkv and "
                "--codec h264."
            )
        video.sample_aspect_ratio = pixel_shape
    if source.display_matrix:
        video.set_display_matrix(source.display_matrix)


def _add_copy(
    container: OutputContainer, target: Path, source: VideoSource, stream: Stream
) -> Stream | None:
    """Return a stream to copy packets to; None if the stream is left out."""
    try:
        if stream.type in ("audio", "subtitle"):
            return container.add_stream_from_template(stream)
    except ValueError:
        if stream.type == "audio":
            raise InputError(
                f"{target}: {target.suffix} cannot hold {_sound(target, source, [stream])}."
            ) from None
    # The stream with an MP4's chapter titles is kept as chapters, so it needs no warning.
    if stream.discard != Discard.all or not source.container.chapters():
        cover = stream.disposition & Disposition.attached_pic
        kind = "cover image" if cover else stream.type
        logger.warning("%s: stream %d (%s) is left out.", source.path, stream.index, kind)
    return None


def _sound(target: Path, source: VideoSource, streams: Sequence[Stream]) -> str:
    codecs = sorted({s.codec_context.name if s.codec_context else "unknown" for s in streams})
    codec = "libopus" if target.suffix.lower() in (".webm", ".mkv") else "aac"
    convert = command(source.path, f"-c:v copy -c:a {codec}", "converted.mkv")
    return f"the sound of {source.path} ({', '.join(codecs)}), convert it first: {convert}"


def _keep_facts(stream: Stream, copy: Stream, keep_metadata: bool) -> None:
    copy.disposition = stream.disposition
    # Players choose the sound by its language.
    kept = _KEPT_OF_STREAMS if keep_metadata else _LANGUAGE
    copy.metadata.update({k: v for k, v in stream.metadata.items() if k in kept})


def _advice(target: Path, source: VideoSource) -> str:
    # Some containers refuse a sound codec only when its packets are written.
    sounds = [stream for stream in source.others if stream.type == "audio"]
    advice = "choose another --codec" if target.suffix.lower() == ".mkv" else "choose .mkv"
    if sounds:
        return f"if {target.suffix} cannot hold {_sound(target, source, sounds)}, or {advice}"
    return advice
