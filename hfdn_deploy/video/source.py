"""Input videos: their streams and their frames."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition, Stream

from hfdn_deploy.errors import InputError
from hfdn_deploy.video.checks import Uniform
from hfdn_deploy.video.encoding import METADATA_ERRORS, file_name
from hfdn_deploy.video.planes import LAYOUTS, Layout
from hfdn_deploy.video.preparing import Preparation
from hfdn_deploy.video.times import Hidden, Item, Times
from hfdn_deploy.video.whole import Owed, check_whole

logger = logging.getLogger(__name__)

# FFmpeg's demuxers that are allowed, whatever the suffix. Formats that refer to other files or to
# the network, such as playlists, are not, nor are still images.
_DEMUXERS = (
    "asf", "avi", "dv", "flv", "ivf", "matroska", "mov", "mpeg", "mpegts", "mpegvideo", "mxf",
    "nut", "ogg", "rm", "wtv", "yuv4mpegpipe",
)  # fmt: skip
# Formats that may end amid a frame, where the recorder was stopped.
_RECORDINGS = ("mpegts", "mpeg", "mpegvideo")
# The longest incomplete end of a recording, in seconds.
_RAGGED = 1
_TRUSTED = {"format_whitelist": ",".join(_DEMUXERS), "protocol_whitelist": "file"}

# Side data of frames that none of the encoders takes.
_LOST = {
    "MASTERING_DISPLAY_METADATA": "HDR10's light levels",
    "CONTENT_LIGHT_LEVEL": "HDR10's light levels",
    "DYNAMIC_HDR_PLUS": "HDR10+",
    "DYNAMIC_HDR_VIVID": "HDR Vivid",
    "DOVI_METADATA": "Dolby Vision",
    "ICC_PROFILE": "the colour profile",
    "A53_CC": "closed captions inside the frames",
    "STEREO3D": "the arrangement of stereoscopic views",
    "SPHERICAL": "the projection of spherical video",
}

# Decoders that conceal damage without marking the frame, unless they are told to fail.
_SILENT = ("mjpeg", "hevc")


@dataclass(frozen=True)
class VideoSource:
    """An opened video file."""

    path: Path
    container: InputContainer
    video: av.VideoStream
    """The stream to upscale: the first that is not a cover image."""
    others: tuple[Stream, ...]
    first: av.VideoFrame
    """The first frame to upscale; all frames have its size, layout and colour tags."""
    display_matrix: list[int] | None
    """The rotation, if a frame has one: the rows of a 3×3 matrix."""
    layout: Layout
    """The layout of all frames."""
    deinterlaced: bool
    """Whether the first frame was deinterlaced."""
    items: Iterator[Item]
    """All frames, and the packets of the other streams, in the order of the file."""

    @property
    def time_base(self) -> Fraction:
        """Seconds per unit of the frames' timestamps."""
        time_base = self.first.time_base
        assert time_base is not None
        return time_base

    @property
    def frame_count(self) -> int | None:
        """The number of frames, from the header or estimated from it; None if unknown."""
        if self.video.frames:
            return self.video.frames
        rate, duration = self.video.guessed_rate, self.container.duration
        return round(rate * duration / av.time_base) if rate and duration else None


@contextmanager
def open_source(path: Path, *, deinterlace: bool = True) -> Iterator[VideoSource]:
    """Open a video file.

    Args:
        path: a video in any supported container, whatever its suffix.
        deinterlace: deinterlace interlaced video; otherwise refuse it.

    Raises:
        InputError: the file is missing, truncated, damaged or without video, or its frames cannot
            be upscaled; the items raise it too.
    """
    with open_container(path) as (container, video):
        check_whole(path, container)
        # WebM's transparency is a second video inside the first, which decoders skip.
        if video.metadata.get("alpha_mode", video.metadata.get("ALPHA_MODE")) == "1":
            raise InputError(f"{path} is transparent, which cannot be kept; flatten it first.")
        # Decode whole frames in parallel, not only slices of one frame.
        video.thread_type = "AUTO"
        if video.codec_context.name in _SILENT:
            video.codec_context.options = {"err_detect": "explode"}
        others = tuple(s for s in container.streams if s is not video)
        decoding = _Decoding(path, container, video, deinterlace=deinterlace)
        items = decoding.items(others)
        head: list[Item] = []
        for item in items:
            head.append(item)
            if isinstance(item, av.VideoFrame):
                yield VideoSource(
                    path, container, video, others, item, decoding.display_matrix,
                    LAYOUTS[item.format.name], decoding.deinterlaces, chain(head, items),
                )  # fmt: skip
                return
        raise InputError(f"{path} has no frame that can be decoded; check that it is complete.")


@contextmanager
def open_container(path: Path) -> Iterator[tuple[InputContainer, av.VideoStream]]:
    """Open a file and find its video stream: the first that is not a cover image.

    Raises:
        InputError: the file is missing, damaged, without video, or in an unsupported format.
    """
    if not path.exists():
        raise InputError(f"{path}: No such file; check its name.")
    with _readable(path):
        try:
            container = av.open(
                file_name(path), container_options=_TRUSTED, metadata_errors=METADATA_ERRORS
            )
        except av.ArgumentError:  # the format is not in the whitelist
            raise InputError(
                f"{path} cannot be decoded: its format, such as a playlist, sound or a still "
                "image, is not supported as video; convert it to .mkv first."
            ) from None
    with container:
        videos = [
            s for s in container.streams.video if not s.disposition & Disposition.attached_pic
        ]
        if not videos or videos[0].codec_context is None:
            raise InputError(f"{path} has no video stream that can be decoded; check the file.")
        yield container, videos[0]


class _Decoding:
    """The decoder of a video, and the demuxer of the other streams."""

    def __init__(
        self, path: Path, container: InputContainer, video: av.VideoStream, *, deinterlace: bool
    ) -> None:
        self.display_matrix: list[int] | None = None
        self._path = path
        self._container = container
        self._video = video
        self._uniform = Uniform(path, video)
        self._times = Times(path, container, video)
        self._prepare = Preparation(path, video, deinterlace=deinterlace)
        self._lost: set[str] = set()
        self._recorded = container.format.name in _RECORDINGS
        self._cut: dict[object, Fraction] = {}
        self._began = False

    @property
    def deinterlaces(self) -> bool:
        """Whether frames have been deinterlaced."""
        return self._prepare.deinterlaces

    def items(self, others: tuple[Stream, ...]) -> Iterator[Item]:
        """Yield frames and packets in the order of the file; each frame lasts until the next."""
        return self._times.lasting(self._decoded(others))

    def _decoded(self, others: tuple[Stream, ...]) -> Iterator[Item]:
        owed = Owed(self._path, self._video.codec_context.name, self._container.format.name)
        hidden = Hidden()
        with _readable(self._path):
            for packet in self._container.demux(self._video, *others):
                if self._is_cut(packet, packet.stream_index, packet.dts):
                    continue
                if packet.stream is not self._video:
                    # At the end come empty packets, which flush decoders.
                    if packet.size and not hidden.covers(packet):
                        self._times.shift(packet)
                        yield packet
                # An empty packet with a time repeats the frame before it (Theora).
                elif packet.size or packet.dts is None:
                    owed.add(packet)
                    for frame in self._frames(packet):
                        if self._is_cut(frame, None, frame.pts):
                            continue
                        owed.settle(frame)
                        self._look(frame)
                        yield from self._prepare(frame)
            if not self._recorded:
                owed.settle(None)
            yield from self._prepare(None)
        if self._cut:
            logger.warning(
                "%s ends with an incomplete frame or sound, which is left out.", self._path
            )

    def _frames(self, packet: "av.Packet[Any]") -> list[av.VideoFrame]:
        """Decode a packet; packets before the first key frame of a recording give no frames."""
        try:
            frames = self._video.decode(packet)
        except av.InvalidDataError:
            if self._recorded and not self._began:
                return []
            raise
        self._began |= bool(frames)
        return frames

    def _is_cut(self, item: Item, kind: object, now: int | None) -> bool:
        """Return whether a packet or frame belongs to the incomplete end of a recording.

        Args:
            item: the packet or frame, possibly corrupt.
            kind: the index of a packet's stream; None for frames.
            now: the item's time in its own time base.

        Raises:
            InputError: the item is corrupt, and not at the end or the file is not a recording.
        """
        if not item.is_corrupt and kind not in self._cut:
            return False
        if not self._recorded or now is None or item.time_base is None:
            if now is None and not item.is_corrupt:
                return False
            raise InputError(f"{self._path} is damaged or truncated; copy it again.")
        begin = self._cut.setdefault(kind, now * item.time_base)
        if abs(now * item.time_base - begin) > _RAGGED:
            raise InputError(
                f"{self._path} is damaged, or joined from several recordings, at "
                f"{float(begin - self._times.start):.3f} s; cut the file there."
            )
        return True

    def _look(self, frame: av.VideoFrame) -> None:
        """Check a frame and set its time; warn once about side data that cannot be kept."""
        self._uniform.check(frame)
        self._times.set(frame)
        side_data: Any = frame.side_data
        if self.display_matrix is None and "DISPLAYMATRIX" in side_data:
            self.display_matrix = np.frombuffer(side_data["DISPLAYMATRIX"], np.int32).tolist()
        for name in {_LOST[key] for key in _LOST if key in side_data} - self._lost:
            logger.warning("%s: metadata cannot be kept: %s.", self._path, name)
            self._lost.add(name)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except av.FFmpegError as error:
        raise InputError(
            f"{path} cannot be decoded: {error.strerror}; it is damaged, truncated or not a video."
        ) from None
