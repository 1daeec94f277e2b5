"""The encoder: frames to a video stream in a file."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.codec.context import Flags
from av.container import OutputContainer

from hfdn_deploy.errors import BackendError, InputError
from hfdn_deploy.machine import cpus, same_scheduling
from hfdn_deploy.video.codecs import CODECS, MUXERS, Codec, VideoOptions
from hfdn_deploy.video.colours import FULL_RANGE, Colours, is_full_range

# Titles that are not UTF-8 keep their bytes.
METADATA_ERRORS = "surrogateescape"

# SVT-AV1 writes to stderr at any log level of FFmpeg; 0 stands for fatal errors only.
os.environ.setdefault("SVT_LOG", "0")


def file_name(path: Path) -> str:
    """Return an absolute path; FFmpeg would take the relative name `12:30.mp4` for a URL."""
    return str(path.absolute())


@contextmanager
def open_container(temporary: Path, target: Path, time_base: Fraction) -> Iterator[OutputContainer]:
    """Open the file to write.

    Args:
        temporary: the file to write.
        target: its final name; the suffix chooses the container.
        time_base: seconds per unit of the frames' timestamps.

    Raises:
        OSError: the file cannot be written.
    """
    muxer = MUXERS[target.suffix.lower()]
    # Without this, the muxer chooses another time base.
    options = {"video_track_timescale": str(time_base.denominator)}
    container = av.open(
        file_name(temporary),
        "w",
        muxer,
        container_options=options if muxer in ("mp4", "mov") else {},
        metadata_errors=METADATA_ERRORS,
    )
    try:
        yield container
    finally:
        # After an error, this frees the container, whose content is discarded.
        with suppress(av.FFmpegError):
            container.close()


@contextmanager
def writable(target: Path, advice: str = "choose another container or --codec") -> Iterator[None]:
    """Turn an encoder's or a muxer's error into an InputError with advice.

    Raises:
        InputError: the target cannot be encoded; the message ends with `advice`.
        OSError: the file cannot be written.
    """
    try:
        yield
    except av.FFmpegError as error:
        if isinstance(error, OSError):
            raise
        raise InputError(f"{target} cannot be encoded: {error.strerror}; {advice}.") from None


class Encoder:
    """A video stream of a container, and its encoder."""

    def __init__(
        self,
        container: OutputContainer,
        target: Path,
        options: VideoOptions,
        like: av.VideoFrame,
        rate: Fraction | None,
    ) -> None:
        """Add the stream.

        Args:
            container: result of `open_container`.
            target: the final name of the file.
            options: codec and CRF.
            like: a frame with the size, format, colour tags and time base of all frames.
            rate: frames per second, for the encoder's rate control.

        Raises:
            InputError: the codec does not take frames of this size or format.
            BackendError: this build of PyAV lacks the encoder.
        """
        codec = options.codec_for(target)
        check_encoder(codec)
        _check_fits(target, codec, like)
        threads = min(cpus(), codec.most_threads)
        settings = {name: text.format(threads=threads) for name, text in codec.options.items()}
        settings["crf"] = str(options.crf_for(codec))
        stream = container.add_stream(codec.encoder, rate, options=settings)
        assert isinstance(stream, av.VideoStream)
        assert like.time_base is not None
        context = stream.codec_context
        context.thread_count = threads
        if codec.tag and container.format.name in ("mp4", "mov"):
            context.codec_tag = codec.tag
        # Without this flag, the last frame gets the average duration.
        context.flags |= Flags.frame_duration
        stream.width, stream.height, stream.pix_fmt = like.width, like.height, like.format.name
        stream.time_base = context.time_base = like.time_base
        Colours.of(like).write_to(stream)
        stream.color_range = FULL_RANGE if is_full_range(like) else like.color_range
        self.stream, self._container = stream, container
        self._durations: dict[int | None, int] = {}

    def open(self) -> None:
        """Write the start of the file, once all streams have been added.

        Raises:
            FFmpegError: the encoder or the container refuses a stream.
        """
        with same_scheduling():
            self._container.start_encoding()

    def encode(self, frame: av.VideoFrame | None) -> "list[av.Packet[Any]]":
        """Return the packets that a frame completes; for None, the remaining packets."""
        if frame is not None:
            self._durations[frame.pts] = frame.duration
        packets = self.stream.encode(frame)
        for packet in packets:
            # SVT-AV1 does not return durations.
            packet.duration = self._durations.pop(packet.pts, None) or packet.duration
        return packets


def check_encoder(codec: Codec) -> None:
    """Refuse a codec whose encoder this build of PyAV lacks.

    Raises:
        BackendError: PyAV lacks the encoder.
    """
    if codec.encoder not in av.codecs_available:
        raise BackendError(
            f"this PyAV lacks {codec.encoder}, the encoder for {codec.title}; install PyAV's "
            "wheel (pip install av) or choose another --codec."
        )


def _check_fits(target: Path, codec: Codec, like: av.VideoFrame) -> None:
    if like.format.name not in formats(codec):
        able = [other.title for other in CODECS.values() if like.format.name in formats(other)]
        raise InputError(
            f"{target}: {codec.encoder} cannot encode {like.format.name} frames; choose .mkv and "
            f"a codec that can ({', '.join(able)})."
        )
    if min(like.width, like.height) < codec.least:
        raise InputError(
            f"{target}: {like.width}×{like.height} is too small for {codec.encoder}, which needs "
            f"at least {codec.least}×{codec.least}; choose another --codec."
        )
    if codec.even and not fits_evenly(like.format, like.width, like.height):
        raise InputError(
            f"{target}: {codec.title} cannot encode {like.width}×{like.height} in "
            f"{like.format.name}, which needs even sides; choose .webm or another scale."
        )


def formats(codec: Codec) -> list[str]:
    """Return the names of the pixel formats that an encoder takes; empty if PyAV lacks it."""
    if codec.encoder not in av.codecs_available:
        return []
    return [format.name for format in av.Codec(codec.encoder, "w").video_formats or ()]


def fits_evenly(format: av.VideoFormat, width: int, height: int) -> bool:
    """Return whether a frame's sides, in pixels, are multiples of the chroma subsampling."""
    across, down = 64 // format.chroma_width(64), 64 // format.chroma_height(64)
    return width % across == 0 and height % down == 0
