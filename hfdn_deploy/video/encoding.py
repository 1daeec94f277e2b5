"""Encoding frames into a file."""

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

# Titles that are not UTF-8 pass as they are.
METADATA_ERRORS = "surrogateescape"

# SVT-AV1 writes to stderr whatever FFmpeg's level is; 0 is for fatal errors alone.
os.environ.setdefault("SVT_LOG", "0")


def file_name(path: Path) -> str:
    """A name that FFmpeg takes for a file's: without a folder, `12:30.mp4` would be an address."""
    return str(path.absolute())


@contextmanager
def open_container(temporary: Path, target: Path, time_base: Fraction) -> Iterator[OutputContainer]:
    """Open the file to write.

    Args:
        temporary: where it is written.
        target: what it will be called: the suffix chooses the container.
        time_base: seconds per unit of the frames' timestamps.

    Raises:
        OSError: the disk refuses.
    """
    muxer = MUXERS[target.suffix.lower()]
    # Or the muxer would choose another time base.
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
        # After an error this frees it; what it holds is thrown away.
        with suppress(av.FFmpegError):
            container.close()


@contextmanager
def writable(target: Path, advice: str = "choose another container or --codec") -> Iterator[None]:
    """Explain what an encoder or a muxer refuses; what the disk does stays an OSError.

    Raises:
        InputError: the target cannot be encoded, with `advice`.
    """
    try:
        yield
    except av.FFmpegError as error:
        if isinstance(error, OSError):
            raise
        raise InputError(f"{target} cannot be encoded: {error.strerror}; {advice}.") from None


class Encoder:
    """The stream of a container that frames are encoded into."""

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
            container: from `open_container`.
            target: what the file will be called.
            options: have the codec and its CRF.
            like: has the size, format, colour tags and time base of all frames.
            rate: frames per second, for the encoder's decisions.

        Raises:
            InputError: the codec does not take such frames.
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
        # Or the last frame would last as long as frames do on average.
        context.flags |= Flags.frame_duration
        stream.width, stream.height, stream.pix_fmt = like.width, like.height, like.format.name
        stream.time_base = context.time_base = like.time_base
        Colours.of(like).write_to(stream)
        stream.color_range = FULL_RANGE if is_full_range(like) else like.color_range
        self.stream, self._container = stream, container
        self._durations: dict[int | None, int] = {}

    def open(self) -> None:
        """Write the start of the file, when all streams are there; what is refused is told.

        Raises:
            FFmpegError: the encoder or the container refuses.
        """
        with same_scheduling():
            self._container.start_encoding()

    def encode(self, frame: av.VideoFrame | None) -> "list[av.Packet[Any]]":
        """Return the packets that a frame completes; for None, those that are left."""
        if frame is not None:
            self._durations[frame.pts] = frame.duration
        packets = self.stream.encode(frame)
        for packet in packets:
            # Which SVT-AV1 does not give back.
            packet.duration = self._durations.pop(packet.pts, None) or packet.duration
        return packets


def check_encoder(codec: Codec) -> None:
    """Refuse a codec whose encoder this build of PyAV lacks.

    Raises:
        BackendError: it does.
    """
    if codec.encoder not in av.codecs_available:
        raise BackendError(
            f"this PyAV lacks {codec.encoder}, which encodes {codec.title}; install its wheel "
            "(pip install av) or choose another --codec."
        )


def _check_fits(target: Path, codec: Codec, like: av.VideoFrame) -> None:
    if like.format.name not in formats(codec):
        able = [other.title for other in CODECS.values() if like.format.name in formats(other)]
        raise InputError(
            f"{target}: {codec.encoder} cannot hold {like.format.name} frames; choose .mkv and a "
            f"codec that can ({', '.join(able)})."
        )
    if min(like.width, like.height) < codec.least:
        raise InputError(
            f"{target}: {like.width}×{like.height} is too small for {codec.encoder}, which takes "
            f"{codec.least}×{codec.least} and more; choose another --codec."
        )
    if codec.even and not fits_evenly(like.format, like.width, like.height):
        raise InputError(
            f"{target}: {codec.title} cannot hold {like.width}×{like.height} in "
            f"{like.format.name}, which needs even sizes; choose .webm or another scale."
        )


def formats(codec: Codec) -> list[str]:
    """Return the names of the pixel formats that an encoder takes; none if PyAV lacks it."""
    if codec.encoder not in av.codecs_available:
        return []
    return [format.name for format in av.Codec(codec.encoder, "w").video_formats or ()]


def fits_evenly(format: av.VideoFormat, width: int, height: int) -> bool:
    """Whether every chroma sample has all its luma samples in a frame of this size."""
    across, down = 64 // format.chroma_width(64), 64 // format.chroma_height(64)
    return width % across == 0 and height % down == 0
