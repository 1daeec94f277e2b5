"""Timestamps and durations of frames and packets."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

import av
from av.container import InputContainer

from hfdn_deploy.errors import InputError

Item: TypeAlias = "av.VideoFrame | av.Packet[Any]"
"""A decoded frame, or a packet of another stream."""

# Seconds before the start that are kept although an edit list hides them: sound decoders need them
# to start (AAC: up to 2112 samples, 0.096 s at 22.05 kHz).
_RUN_UP = Fraction(1, 10)


class Times:
    """Timestamps of frames and packets, moved and repaired so that a muxer takes them."""

    def __init__(self, path: Path, container: InputContainer, video: av.VideoStream) -> None:
        self._path = path
        self._video = video
        # MP4 and Matroska have a deliberate start and length. A transport stream may begin hours
        # after 0.
        self._edited = any(name in container.format.name for name in ("mov", "matroska"))
        self.start = Fraction(0 if self._edited else container.start_time or 0, av.time_base)
        # AVI has no timestamps; those that FFmpeg invents are in decoding order, even for B-frames.
        self._by_dts = container.format.name == "avi"
        self._delay: int | None = None
        self._last: int | None = None

    def set(self, frame: av.VideoFrame) -> None:
        """Set the timestamp of a frame.

        Raises:
            InputError: the frame has no timestamp, or an earlier one than the frame before it.
        """
        frame.pts = self._time(frame)
        if self._last is not None and frame.pts <= self._last:
            if frame.pts < self._last - 1:
                at = f"{float(self._last * (self._video.time_base or 0)):.3f} s"
                raise InputError(
                    f"{self._path} goes back in time after {at}, as if joined from several files; "
                    "cut it there."
                )
            frame.pts = self._last + 1
        self._last = frame.pts

    def _time(self, frame: av.VideoFrame) -> int:
        assert frame.time_base is not None
        if not self._by_dts:
            if frame.pts is None:
                raise InputError(
                    f"{self._path} has a frame without a timestamp; remux it with ffmpeg first."
                )
            return frame.pts - round(self.start / frame.time_base)
        if frame.dts is None:  # a frame from flushing the decoder
            return 0 if self._last is None else self._last + (frame.duration or 1)
        if self._delay is None:
            self._delay = frame.dts - (self._video.start_time or 0)
        return frame.dts - self._delay - round(self.start / frame.time_base)

    def shift(self, packet: "av.Packet[Any]") -> None:
        """Move the timestamps of a packet of another stream."""
        shift = round(self.start / packet.time_base)
        if packet.pts is not None:
            packet.pts -= shift
        if packet.dts is not None:
            packet.dts -= shift

    def lasting(self, items: Iterable[Item]) -> Iterator[Item]:
        """Make every frame last until the next, as durations in an MP4 are in decoding order."""
        last: av.VideoFrame | None = None
        usual = 0
        for item in items:
            if isinstance(item, av.Packet):
                yield item
                continue
            if last is not None:
                _last_until(last, item.pts)
                usual = last.duration
                yield last
            last = item
        if last is not None:
            last.duration = last.duration or usual
            start, duration = self._video.start_time, self._video.duration
            if start is not None and duration is not None and self._last is not None:
                end = start + duration - round(self.start / (self._video.time_base or 1))
                # The length in other containers is often an estimate.
                if self._edited or end - self._last < 2 * usual:
                    _last_until(last, end)
            yield last


class Hidden:
    """A detector of packets that edit lists hide."""

    def __init__(self) -> None:
        self._begun: set[int] = set()

    def covers(self, packet: "av.Packet[Any]") -> bool:
        """Return whether a packet is hidden and not part of the run-up before its stream's start.

        Hidden packets between two segments are never kept: their timestamps would go back, which
        muxers refuse.
        """
        if not packet.is_discard:
            self._begun.add(packet.stream_index)
            return False
        start = packet.stream.start_time
        if packet.stream_index in self._begun or packet.pts is None or start is None:
            return True
        return bool((start - packet.pts) * packet.time_base > _RUN_UP)


def _last_until(frame: av.VideoFrame, end: int | None) -> None:
    if frame.pts is not None and end is not None and end > frame.pts:
        frame.duration = end - frame.pts
