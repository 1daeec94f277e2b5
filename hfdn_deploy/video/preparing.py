"""Preparation of decoded frames for upscaling: deinterlacing and pixel formats."""

import logging
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import av
from av.filter import Graph
from av.video.reformatter import ColorRange

from hfdn_deploy.errors import InputError
from hfdn_deploy.video.checks import command, nearest
from hfdn_deploy.video.colours import EXACT, Colours, is_full_range, yuv_of_rgb
from hfdn_deploy.video.planes import LAYOUTS

logger = logging.getLogger(__name__)

# AVFieldOrder: greater numbers are interlaced, with the top or the bottom field shown first.
_PROGRESSIVE = 1
_TOP_FIRST = (2, 5)
# Decoders that mark each frame as interlaced or not, whatever the header says.
_TELL = ("h264", "hevc", "mpeg2video", "mpeg4", "vc1", "dvvideo", "prores")


class Preparation:
    """Deinterlacing, and conversion of other pixel formats to YUV, each with one warning."""

    def __init__(self, path: Path, video: av.VideoStream, *, deinterlace: bool) -> None:
        """Read the field order from the header.

        Raises:
            InputError: the header says interlaced, and interlaced video cannot or must not be
                deinterlaced.
        """
        self._path = path
        self._deinterlace = deinterlace
        self._codec = video.codec_context.name
        order = video.codec_context.field_order
        told = order > _PROGRESSIVE and self._codec not in _TELL
        self._bwdif: _Bwdif | None = None
        self._options = "deint=interlaced"
        if told:
            self._options = f"deint=all:parity={'tff' if order in _TOP_FIRST else 'bff'}"
            self._warn_of_fields()
        self._always = told
        self._converts = False

    @property
    def deinterlaces(self) -> bool:
        """Whether frames have been deinterlaced."""
        return self._bwdif is not None

    def __call__(self, frame: av.VideoFrame | None) -> Iterator[av.VideoFrame]:
        """Yield the frames that are ready after this one; after None, the rest.

        Raises:
            InputError: the frame is interlaced, and cannot or must not be deinterlaced.
        """
        for ready in self._whole(frame):
            yield ready if ready.format.name in LAYOUTS else self._converted(ready)

    def _whole(self, frame: av.VideoFrame | None) -> Iterator[av.VideoFrame]:
        if frame is not None and self._bwdif is None and (self._always or frame.interlaced_frame):
            if not self._always:
                self._warn_of_fields()
            self._bwdif = _Bwdif(frame, self._options)
        if self._bwdif is not None:
            yield from self._bwdif(frame)
        elif frame is not None:
            yield frame

    def _warn_of_fields(self) -> None:
        if self._codec == "hevc":
            raise InputError(
                f"{self._path} stores each field as a frame, and such fields cannot be joined; "
                "join them first: "
                + command(self._path, "-vf weave,bwdif -c:a copy", "progressive.mkv")
            )
        if not self._deinterlace:
            raise InputError(
                f"{self._path} is interlaced, and upscaling would mix its fields; omit "
                "--no-deinterlace, or deinterlace it first: "
                + command(self._path, "-vf bwdif -c:a copy", "progressive.mkv")
            )
        logger.warning(
            "%s is interlaced and is deinterlaced with bwdif; --no-deinterlace would refuse it.",
            self._path,
        )

    def _converted(self, frame: av.VideoFrame) -> av.VideoFrame:
        name = nearest(frame.format)
        if not self._converts:
            logger.warning(
                "%s: %s frames are converted to %s.", self._path, frame.format.name, name
            )
            self._converts = True
        if frame.format.is_rgb or frame.format.has_palette:
            result = yuv_of_rgb(frame, name)
        else:
            same = ColorRange.JPEG if is_full_range(frame) else ColorRange.MPEG
            result = frame.reformat(
                format=name, src_color_range=same, dst_color_range=same, interpolation=EXACT
            )
            Colours.of(frame).write_to(result)
            result.color_range = frame.color_range
        result.pts, result.time_base, result.duration = frame.pts, frame.time_base, frame.duration
        return result


class _Bwdif:
    """FFmpeg's deinterlacer, which returns one frame for each interlaced frame."""

    def __init__(self, like: av.VideoFrame, options: str) -> None:
        self._graph = Graph()
        source = self._graph.add_buffer(
            width=like.width, height=like.height, format=like.format, time_base=like.time_base
        )
        bwdif = self._graph.add("bwdif", f"mode=send_frame:{options}")
        self._graph.link_nodes(source, bwdif, self._graph.add("buffersink"))
        self._graph.configure()
        self._times: deque[tuple[int | None, int]] = deque()
        self._time_base = like.time_base

    def __call__(self, frame: av.VideoFrame | None) -> Iterator[av.VideoFrame]:
        """Yield the frames that are ready after this one; after None, the last."""
        if frame is not None:
            self._times.append((frame.pts, frame.duration))
        self._graph.vpush(frame)
        with suppress(av.BlockingIOError, av.EOFError):
            while True:
                ready = self._graph.vpull()
                ready.time_base = self._time_base
                ready.pts, ready.duration = self._times.popleft()
                yield ready
