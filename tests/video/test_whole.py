"""Damage that FFmpeg's demuxers ignore."""

import av
import numpy as np
import pytest

from hfdn_deploy.video import upscale_video
from tests.helpers.clips import flat, noise, read_clip, refused, samples, write_clip


def positions(path):
    """Return the positions of the video's packets in the file, in bytes."""
    with av.open(str(path)) as container:
        return [packet.pos for packet in container.demux(video=0) if packet.size]


@pytest.mark.parametrize("name", ["a.webm", "a.mkv"])
@pytest.mark.parametrize("shift", [-4, 0])
def test_a_broken_element_does_not_end_the_video_early(up, tmp_path, name, shift):
    path = write_clip(tmp_path / name, noise(6))
    data = bytearray(path.read_bytes())
    middle = positions(path)[3] + shift
    data[middle : middle + 8] = bytes(8)
    path.write_bytes(data)
    with av.open(str(path)) as container:
        assert len(list(container.demux(video=0))) < 6
    assert "damaged or truncated at byte" in refused(up, path, tmp_path / f"out{path.suffix}")


@pytest.mark.parametrize(
    ("codec", "format", "where", "options"),
    [
        ("mjpeg", "yuvj420p", 0.8, {}),
        ("libx265", "yuv420p", 0.05, {"x265-params": "log-level=none"}),
    ],
)
def test_damage_that_decoders_conceal(up, tmp_path, codec, format, where, options):
    rng = np.random.default_rng(0)
    frames = [flat(format, 50) for _ in range(6)]
    for frame in frames:
        samples(frame, 0)[:] = rng.integers(16, 236, (16, 24))
    path = write_clip(tmp_path / "a.mp4", frames, codec=codec, options=options)
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][3]
    data = bytearray(path.read_bytes())
    start = packet.pos + int(packet.size * where)
    data[start : start + 20] = b"\x55" * 20
    path.write_bytes(data)
    with av.open(str(path)) as container:
        assert not any(frame.is_corrupt for frame in container.decode(video=0))
    assert "damaged" in refused(up, path, tmp_path / "out.mp4")


@pytest.mark.parametrize(("name", "number", "value"), [("a.webm", 3, 0), ("a.mp4", 5, 255)])
def test_frames_that_the_decoder_skips(up, tmp_path, name, number, value):
    path = write_clip(tmp_path / name, noise(6))
    data = bytearray(path.read_bytes())
    data[positions(path)[number]] = value
    path.write_bytes(data)
    # With threads, H.264's decoder does not report that it cannot read the last frame.
    assert "is damaged" in refused(up, path, tmp_path / f"out{path.suffix}")


@pytest.mark.parametrize("name", ["a.webm", "a.mkv"])
def test_a_recording_that_tells_no_sizes(up, tmp_path, name):
    path = write_clip(tmp_path / name, noise(6), muxing={"live": "1"})
    data = path.read_bytes()
    upscale_video(up, path, tmp_path / f"out{path.suffix}")
    assert len(read_clip(tmp_path / f"out{path.suffix}").frames) == 6
    path.write_bytes(data[: positions(path)[3] + 50])
    (tmp_path / f"out{path.suffix}").unlink()
    assert "damaged or truncated at byte" in refused(up, path, tmp_path / f"out{path.suffix}")


def test_an_index_that_is_cut_loses_no_streams(up, tmp_path):
    path = write_clip(tmp_path / "a.mp4", noise(6), sound="aac")
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"trak") + 100])
    with av.open(str(path)) as container:
        assert not container.streams.audio
    assert "is truncated" in refused(up, path, tmp_path / "out.mp4")


def test_what_follows_the_boxes_of_an_mp4(up, tmp_path):
    fragments = {"movflags": "frag_keyframe+empty_moov"}
    path = write_clip(tmp_path / "a.mp4", noise(6), muxing=fragments, options={"g": "2"})
    data = path.read_bytes()
    middle = data.index(b"moof", data.index(b"moof") + 4)
    path.write_bytes(data[: middle - 4] + bytes(8) + data[middle + 4 :])
    assert "damaged or truncated at byte" in refused(up, path, tmp_path / "out.mp4")
    for rest in (bytes(100), b"\xff" * 100):
        path = write_clip(tmp_path / "b.mp4", noise(6))
        path.write_bytes(path.read_bytes() + rest)
        upscale_video(up, path, tmp_path / "out.mp4")
        assert len(read_clip(tmp_path / "out.mp4").frames) == 6
