"""Video clips, encoded and decoded with PyAV."""

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from hfdn_deploy import Upscaler
from hfdn_deploy.errors import HFDNError, InputError
from hfdn_deploy.machine import same_scheduling
from hfdn_deploy.video import VideoOptions, upscale_video

LOSSLESS = {"libx264": {"qp": "0"}, "libvpx-vp9": {"lossless": "1"}}


def samples(frame: av.VideoFrame, index: int) -> NDArray[Any]:
    """Return a view (H, W) of a plane of a frame."""
    plane: Any = frame.planes[index]
    dtype: type[np.uint8 | np.uint16]
    dtype = np.uint16 if frame.format.name.endswith("le") else np.uint8
    pixels: NDArray[Any] = np.frombuffer(plane, dtype).reshape(plane.height, -1)
    return pixels[:, : plane.width]


def make_frame(planes: Sequence[NDArray[Any]], format: str = "yuv420p") -> av.VideoFrame:
    """Return a frame of these planes, luma first."""
    height, width = planes[0].shape
    frame = av.VideoFrame(width, height, format)
    for index, plane in enumerate(planes):
        samples(frame, index)[:] = plane
    return frame


def flat(
    format: str, luma: int, chroma: int = 100, size: tuple[int, int] = (16, 24)
) -> av.VideoFrame:
    """Return a frame of one colour; `size` is height and width."""
    frame = av.VideoFrame(size[1], size[0], format)
    for index in range(len(frame.planes)):
        samples(frame, index)[:] = chroma if index else luma
    return frame


def noise(count: int, size: tuple[int, int] = (16, 24)) -> Iterator[av.VideoFrame]:
    """Yield frames that do not compress well."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        frame = flat("yuv420p", 0, size=size)
        samples(frame, 0)[:] = rng.integers(16, 236, size)
        yield frame


def write_clip(
    path: Path,
    frames: Iterable[av.VideoFrame],
    times: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 25),
    sound: str | None = None,
    muxing: dict[str, str] | None = None,
    chapter: str | None = None,
    **facts: Any,
) -> Path:
    """Encode a lossless video and return its path.

    Args:
        path: file to write.
        frames: frames of the video.
        times: timestamps in `time_base`; by default 0, 1, 2 ...
        time_base: time base of the video stream.
        sound: name of an audio codec, if there is sound.
        muxing: options of the container.
        chapter: title of a chapter, if there is one.
        facts: attributes of the video stream.
    """
    frames = list(frames)
    codec = facts.pop("codec", "libvpx-vp9" if path.suffix == ".webm" else "libx264")
    options = LOSSLESS.get(codec, {}) | facts.pop("options", {})
    rotation = facts.pop("rotation", None)
    with av.open(str(path), "w", container_options=muxing or {}) as container:
        video = container.add_stream(codec, 25, options=options)
        video.width, video.height = frames[0].width, frames[0].height
        video.pix_fmt = frames[0].format.name
        video.time_base = video.codec_context.time_base = time_base
        for name, value in facts.items():
            setattr(video, name, value)
        if rotation is not None:
            video.set_display_rotation(rotation)
        if sound:
            audio: Any = container.add_stream(sound, 48000)
            if sound == "wmav2":  # the codec has no default
                audio.bit_rate = 64_000
            audio.metadata.update({"language": "eng", "title": "a sound"})
        container.metadata["title"] = "a clip"
        if chapter:
            whole = {"id": 1, "start": 0, "end": 80, "time_base": Fraction(1, 1000)}
            chapters: Any = [{**whole, "metadata": {"title": chapter}}]
            container.set_chapters(chapters)
        with same_scheduling():
            container.start_encoding()
        for index, frame in enumerate(frames):
            frame.pts, frame.time_base = times[index] if times else index, time_base
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if sound:
            seconds = ((frames[-1].pts or 0) + 1) * float(time_base)
            rng = np.random.default_rng(0)
            for start in range(0, int(48000 * seconds), 960):
                tone = rng.normal(0, 0.1, (2, 960)).astype(np.float32)
                block = av.AudioFrame.from_ndarray(tone, "fltp", "stereo")
                block.sample_rate, block.pts = 48000, start
                container.mux(audio.encode(block))
            container.mux(audio.encode())
    return path


def cut(path: Path, segments: Sequence[tuple[float, float]]) -> None:
    """Change the edit lists of an MP4 to show only some segments (start, length in seconds)."""

    def rebuilt(boxes: bytes, scale: int) -> bytes:
        result, position = b"", 0
        while position < len(boxes):
            length = int.from_bytes(boxes[position : position + 4])
            kind, body = boxes[position + 4 : position + 8], boxes[position + 8 : position + length]
            if kind in (b"moov", b"edts"):
                body = rebuilt(body, scale)
            elif kind == b"trak":
                # In mdhd, the time scale follows version, flags and two times.
                header = body.index(b"mdhd") + 16
                body = rebuilt(body, int.from_bytes(body[header : header + 4]))
            elif kind == b"elst":
                first = int.from_bytes(body[12:16])
                body = struct.pack(">II", 0, len(segments))
                for start, seconds in segments:
                    times = round(1000 * seconds), first + round(scale * start)
                    body += struct.pack(">III", *times, 1 << 16)
            result += struct.pack(">I", 8 + len(body)) + kind + body
            position += length
        return result

    path.write_bytes(rebuilt(path.read_bytes(), 0))


@dataclass(frozen=True)
class Clip:
    """A decoded video file."""

    frames: list[av.VideoFrame]
    times: list[int | None]
    durations: list[int | None]
    sound: list[tuple[int | None, int | None, bytes]]
    """Timestamp, duration and bytes of every audio packet."""
    video: dict[str, Any]
    """Values from the video stream's header."""
    metadata: dict[str, str]
    languages: list[str | None]
    """Languages of the audio streams."""
    seconds: float
    """Duration of the container."""


def read_clip(path: Path) -> Clip:
    """Decode a video file."""
    frames: list[av.VideoFrame] = []
    sound: list[tuple[int | None, int | None, bytes]] = []
    with av.open(str(path), metadata_errors="surrogateescape") as container:
        video = container.streams.video[0]
        header = {
            "time_base": video.time_base,
            "duration": video.duration,
            "codec": video.codec_context.name,
            "sample_aspect_ratio": video.sample_aspect_ratio,
        }
        for packet in container.demux():
            if packet.stream is video:
                frames += video.decode(packet)
            elif packet.size:
                sound.append((packet.pts, packet.duration, bytes(packet)))
        languages = [s.metadata.get("language") for s in container.streams.audio]
        seconds = (container.duration or 0) / av.time_base
        times = [frame.pts for frame in frames]
        durations: list[int | None] = [frame.duration for frame in frames]
        return Clip(frames, times, durations, sound, header, container.metadata, languages, seconds)


def refused(
    up: Upscaler,
    source: Path,
    target: Path,
    error: type[HFDNError] = InputError,
    options: VideoOptions | None = None,
) -> str:
    """Return the error message for a refused video, and check that no file is left."""
    before = {path: path.read_bytes() for path in target.parent.rglob("*")}
    with pytest.raises(error) as caught:
        upscale_video(up, source, target, options=options or VideoOptions())
    assert {path: path.read_bytes() for path in target.parent.rglob("*")} == before
    return str(caught.value)
