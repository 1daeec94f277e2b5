"""Deinterlacing of interlaced video."""

from fractions import Fraction

import av
import numpy as np
import pytest

from hfdn_deploy.cli import main
from hfdn_deploy.video import upscale_video
from tests.helpers.clips import make_frame, noise, read_clip, refused, samples, write_clip

SIZE = (32, 48)
INTERLACED = {"flags": "+ilme+ildct"}


def fields(count, top_first=True):
    """Yield frames whose two fields show a moving bar at two moments."""
    for index in range(count):
        luma = np.full(SIZE, 40, np.uint8)
        for row in range(SIZE[0]):
            late = row % 2 == (1 if top_first else 0)
            begin = 4 + 6 * index + 3 * late
            luma[row, begin : begin + 6] = 200
        neutral = np.full((SIZE[0] // 2, SIZE[1] // 2), 128, np.uint8)
        yield make_frame([luma, neutral, neutral])


def filtered(frames, *filters):
    """Yield frames after FFmpeg's filters."""
    frames = list(frames)
    first = frames[0]
    graph = av.filter.Graph()
    nodes = [
        graph.add_buffer(
            width=first.width, height=first.height, format=first.format,
            time_base=first.time_base or Fraction(1, 25),
        ),
        *(graph.add(*each.split("=", 1)) for each in filters),
        graph.add("buffersink"),
    ]  # fmt: skip
    graph.link_nodes(*nodes).configure()
    for index, frame in enumerate(frames):
        frame.pts, frame.time_base = index, first.time_base or Fraction(1, 25)
        graph.vpush(frame)
    graph.vpush(None)
    for _ in frames:
        yield graph.vpull()


def flagged(frames, parity):
    """Yield frames marked as interlaced with this field order, as from a camera's decoder."""
    return filtered(frames, f"setfield={parity}")


def combing(luma):
    """Return the mean difference of neighbouring rows."""
    return np.abs(np.diff(luma.astype(float), axis=0)).mean()


def expected(source, parity):
    """Return the frames of a file after FFmpeg's bwdif with this field order."""
    frames = read_clip(source).frames
    bwdif = f"bwdif=mode=send_frame:deint=all:parity={parity}"
    return [samples(frame, 0).copy() for frame in filtered(frames, bwdif)]


@pytest.mark.parametrize(
    ("name", "codec", "parity"),
    [
        ("a.mp4", "libx264", "tff"),
        ("a.ts", "libx264", "bff"),
        ("a.mpg", "mpeg2video", "tff"),
        ("a.mkv", "ffv1", "tff"),
        ("a.mkv", "ffv1", "bff"),
    ],
)
def test_interlaced_video_is_deinterlaced_in_its_order(up, tmp_path, caplog, name, codec, parity):
    facts = {"options": {**INTERLACED, "qp": "0", "qscale": "2"}}
    if codec == "ffv1":  # its frames are not marked
        facts = {"field_order": 2 if parity == "tff" else 3}
    frames = flagged(fields(6, parity == "tff"), parity)
    source = write_clip(tmp_path / name, frames, codec=codec, **facts)
    report = upscale_video(up, source, tmp_path / "out.mkv")
    assert report["frames"] == 6
    before, after = read_clip(source), read_clip(tmp_path / "out.mkv")
    times = [float(clip.times[5] * clip.video["time_base"]) for clip in (before, after)]
    assert len(after.frames) == 6
    if name not in ("a.ts", "a.mpg"):  # their outputs begin at 0
        assert times[0] == pytest.approx(times[1], abs=0.001)
    for one, whole, result in zip(
        before.frames, expected(source, parity), after.frames, strict=True
    ):
        assert combing(samples(one, 0)) > 3 * combing(whole)
        assert not result.interlaced_frame
        network = 255 * up.upscale_luma(whole.astype(np.float32) / 255)
        error = samples(result, 0) - network.clip(0, 255)
        assert 10 * np.log10(255**2 / np.mean(error**2)) > 36
    assert [m for m in caplog.messages if "interlaced" in m] == [
        f"{source} is interlaced and is deinterlaced with bwdif; --no-deinterlace would refuse it."
    ]


def test_progressive_frames_between_interlaced_ones_stay_as_they_are(up, tmp_path):
    """Progressive and interlaced frames in one stream, as in a broadcast."""
    frames = list(fields(8))
    options = {"qp": "0", **INTERLACED}
    late = list(flagged(frames[4:], "tff"))
    write_clip(tmp_path / "fields.ts", late, list(range(4, 8)), options=options)
    write_clip(tmp_path / "film.ts", frames[:4], options={"qp": "0"})
    parts = [tmp_path / "film.ts", tmp_path / "fields.ts"]
    source = tmp_path / "in.mkv"
    with av.open(str(source), "w") as container:
        stream = None
        for part in parts:
            with av.open(str(part)) as opened:
                stream = stream or container.add_stream_from_template(opened.streams.video[0])
                for packet in opened.demux(video=0):
                    if packet.size:
                        packet.stream = stream
                        container.mux(packet)
    before = read_clip(source).frames
    assert [frame.interlaced_frame for frame in before] == [False] * 4 + [True] * 4
    upscale_video(up, source, tmp_path / "out.mkv")
    after = read_clip(tmp_path / "out.mkv").frames
    assert len(after) == 8
    for index in range(8):
        network = up.upscale_luma(samples(before[index], 0).astype(np.float32) / 255)
        error = samples(after[index], 0) - (255 * network).clip(0, 255)
        same = 10 * np.log10(255**2 / np.mean(error**2)) > 36
        assert same == (index < 4)


def test_no_deinterlace_refuses(tmp_path, capsys):
    options = {"qp": "0", **INTERLACED}
    source = write_clip(tmp_path / "in.mp4", flagged(fields(3), "tff"), options=options)
    arguments = ["upscale", str(source), "-o", str(tmp_path / "out.mp4"), "--scale", "2"]
    assert main([*arguments, "--no-deinterlace"]) == 2
    assert "is interlaced, and upscaling would mix its fields" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_fields_that_are_frames_are_refused(up, tmp_path):
    """HEVC codes each field as a frame."""
    options = {"x265-params": "log-level=none:interlace=tff"}
    source = write_clip(tmp_path / "a.mkv", noise(4, (64, 64)), codec="libx265", options=options)
    message = refused(up, source, tmp_path / "out.mp4")
    assert "stores each field as a frame" in message
    assert "-vf weave,bwdif" in message
