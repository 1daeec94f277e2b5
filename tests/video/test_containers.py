"""Inputs in containers that can be read but not written."""

from fractions import Fraction

import av
import numpy as np
import pytest

from hfdn_deploy.cli import main
from hfdn_deploy.video import is_video, upscale_video
from tests.helpers.clips import flat, noise, read_clip, refused, samples, write_clip

# Containers with their usual video and sound codecs.
KINDS = [
    ("a.avi", "mpeg4", "libmp3lame"),
    ("a.avi", "mjpeg", None),
    ("a.wmv", "wmv2", None),
    ("a.ts", "mpeg2video", "mp2"),
    ("a.m2ts", "libx264", "aac"),
    ("a.mpg", "mpeg1video", "mp2"),
    ("a.flv", "flv1", None),
    ("a.flv", "libx264", "aac"),
    ("a.3gp", "libx264", "aac"),
    ("a.mxf", "mpeg2video", None),
    ("a.nut", "ffv1", None),
]


def stairs(count, format="yuv420p"):
    """Yield grey frames, each brighter than the one before."""
    return [flat(format, 40 + 20 * index, 128) for index in range(count)]


def levels(clip):
    return [round(float(samples(frame, 0).mean())) for frame in clip.frames]


def seconds(clip):
    return [float(time * clip.video["time_base"]) for time in clip.times]


def clip_of(path, codec, sound=None, frames=None, **facts):
    """Write a clip that loses little in lossy codecs; H.264 has B-frames."""
    format = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    options = {"qp": "4", "bf": "2"} if codec == "libx264" else {"qscale": "2"}
    time_base = Fraction(1, 90_000) if codec == "libx264" else Fraction(1, 25)
    unit = int(1 / (25 * time_base))
    frames = frames or stairs(6, format)
    times = [unit * index for index in range(len(frames))]
    return write_clip(
        path, frames, facts.pop("times", times), time_base, sound, codec=codec, options=options,
        **facts,
    )  # fmt: skip


@pytest.mark.parametrize("target", ["out.mp4", "out.mkv"])
@pytest.mark.parametrize(("name", "codec", "sound"), KINDS)
def test_any_container_is_read(up, tmp_path, capfd, name, codec, sound, target):
    source = clip_of(tmp_path / name, codec, sound)
    report = upscale_video(up, source, tmp_path / target)
    assert (report["width"], report["height"], report["frames"]) == (48, 32, 6)
    before, after = read_clip(source), read_clip(tmp_path / target)
    assert np.abs(np.subtract(levels(after), levels(before))).max() <= 3
    times = seconds(after)
    assert np.diff(times) == pytest.approx(np.diff(seconds(before)), abs=0.0011)
    # Outputs of recordings begin at 0; the sound may start before the video.
    assert 0 <= times[0] < 0.1
    assert [packet[2] for packet in after.sound if packet[2]] or not sound
    assert after.seconds == pytest.approx(max(before.seconds, 0.24), abs=0.1)
    assert capfd.readouterr() == ("", "")


def test_content_decides_not_the_suffix(tmp_path):
    """An AVI named .mp4 and an MP4 named .avi, from the command line."""
    clip_of(tmp_path / "a.avi", "mpeg4").rename(tmp_path / "a.mp4")
    clip_of(tmp_path / "b.mp4", "libx264").rename(tmp_path / "b.avi")
    for name in ("a.mp4", "b.avi"):
        target = tmp_path / f"out_{name[0]}.mkv"
        assert main(["upscale", str(tmp_path / name), "-o", str(target), "--scale", "2"]) == 0
        assert len(read_clip(target).frames) == 6


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.avi", "mpeg4"), ("a.wmv", "wmv2"), ("a.flv", "flv1"), ("a.mpg", "mpeg1video"),
        ("a.mp4", "libx264"), ("a.mov", "libx264"), ("a.3gp", "libx264"), ("a.mkv", "libx264"),
        ("a.webm", "libvpx-vp9"), ("a.ogv", "libvpx"),
    ],
)  # fmt: skip
def test_a_video_without_a_suffix_that_says_so(tmp_path, name, codec):
    data = clip_of(tmp_path / name, codec).read_bytes()
    for other in ("a", "a.bin", "a.part"):
        (tmp_path / other).write_bytes(data)
        assert is_video(tmp_path / other)
    (tmp_path / "b.bin").write_bytes(data[3:])
    (tmp_path / "c.png").write_bytes(data)
    assert not is_video(tmp_path / "b.bin")
    assert not is_video(tmp_path / "c.png")
    assert not is_video(tmp_path / "missing")
    assert is_video(tmp_path / "missing.avi")


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_b_frames_of_an_avi_come_in_their_order(up, tmp_path, codec):
    """AVI has no timestamps; FFmpeg invents them in decoding order."""
    source = write_clip(
        tmp_path / "a.avi", stairs(9), codec=codec, options={"bf": "2", "qscale": "2"}
    )
    upscale_video(up, source, tmp_path / "out.mp4")
    after = read_clip(tmp_path / "out.mp4")
    assert seconds(after) == pytest.approx([0.04 * index for index in range(9)])
    assert levels(after) == pytest.approx([40 + 20 * index for index in range(9)], abs=3)


@pytest.mark.parametrize("name", ["a.flv", "a.ts", "a.wmv"])
def test_variable_frame_rates_stay(up, tmp_path, name):
    starts = [0, 40, 80, 400, 440]
    codec = "wmv2" if name.endswith("wmv") else "libx264"
    source = clip_of(tmp_path / name, codec)
    source = write_clip(
        source, stairs(5), starts, Fraction(1, 1000), codec=codec, options={"qscale": "2"}
    )
    upscale_video(up, source, tmp_path / "out.mp4")
    after = read_clip(tmp_path / "out.mp4")
    times = seconds(after)
    assert [time - times[0] for time in times] == pytest.approx(
        [start / 1000 for start in starts], abs=0.0015
    )
    # The last frame has the usual duration.
    assert after.seconds == pytest.approx(times[-1] + 0.04, abs=0.005)


def test_a_transport_stream_that_begins_late_or_wraps(up, tmp_path):
    """The 33-bit clock wraps after 95443.7 s."""
    for start in (7200, 95_443.6):
        times = [round(90_000 * start) + 3600 * index for index in range(6)]
        source = clip_of(tmp_path / "a.ts", "libx264", times=times)
        upscale_video(up, source, tmp_path / "out.mp4")
        after = read_clip(tmp_path / "out.mp4")
        assert seconds(after) == pytest.approx([0.04 * index for index in range(6)], abs=0.001)
        assert after.seconds == pytest.approx(0.24, abs=0.001)


def test_recordings_may_end_anywhere(up, tmp_path, caplog):
    source = clip_of(tmp_path / "a.ts", "mpeg2video", frames=list(noise(8)))
    whole = source.read_bytes()
    source.write_bytes(whole[: len(whole) * 6 // 10])
    upscale_video(up, source, tmp_path / "out.mp4")
    frames = read_clip(tmp_path / "out.mp4").frames
    assert 2 <= len(frames) <= 5
    assert caplog.messages == [
        f"{source} ends with an incomplete frame or sound, which is left out."
    ]


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg2video"])
def test_recordings_may_begin_anywhere(up, tmp_path, codec):
    """Frames that depend on frames before the first are left out."""
    options = {"g": "5", "bf": "2", "x265-params": "log-level=none:keyint=5"}
    if codec != "libx265":
        del options["x265-params"]
    source = write_clip(
        tmp_path / "a.ts", noise(15, (32, 32)), codec=codec, options={**options, "qscale": "2"}
    )
    whole = source.read_bytes()
    with av.open(str(source)) as container:
        second = [packet.pos for packet in container.demux() if packet.size][1]
    source.write_bytes(whole[second - second % 188 :])
    upscale_video(up, source, tmp_path / "out.mkv")
    assert 8 <= len(read_clip(tmp_path / "out.mkv").frames) <= 14


def test_packed_b_frames_of_divx(up, tmp_path):
    """Two frames in a packet, followed by a packet without a frame."""
    options = {"bf": "1", "qscale": "2", "b_strategy": "0"}
    plain = write_clip(tmp_path / "plain.avi", stairs(9), codec="mpeg4", options=options)
    source, begin = tmp_path / "a.avi", b"\0\0\1\xb6"
    with av.open(str(plain)) as container, av.open(str(source), "w") as packed:
        stream = packed.add_stream_from_template(container.streams.video[0])
        first, *rest = [bytes(packet) for packet in container.demux() if packet.size]
        contents = [first.replace(begin, b"\0\0\1\xb2DivX503b1393p" + begin, 1)]
        for p_frame, b_frame in zip(rest[::2], rest[1::2], strict=True):
            contents += [p_frame + b_frame, begin + b"\x51\x80\x1f"]
        for index, content in enumerate(contents):
            packet = av.Packet(content)
            packet.stream, packet.time_base = stream, Fraction(1, 25)
            packet.pts = packet.dts = index
            packet.is_keyframe = index == 0
            packed.mux(packet)
    upscale_video(up, source, tmp_path / "out.mp4")
    after = read_clip(tmp_path / "out.mp4")
    assert levels(after) == pytest.approx([40 + 20 * index for index in range(9)], abs=3)
    assert seconds(after) == pytest.approx([0.04 * index for index in range(9)])


def test_times_that_go_back_are_refused(up, tmp_path):
    """Two concatenated transport streams."""
    source = clip_of(tmp_path / "a.ts", "mpeg2video")
    late = clip_of(tmp_path / "b.ts", "mpeg2video", times=[5 * 25 + index for index in range(6)])
    source.write_bytes(late.read_bytes() + source.read_bytes())
    message = refused(up, source, tmp_path / "out.mp4")
    assert "joined from several recordings, at 0." in message
    assert "cut the file there" in message


@pytest.mark.parametrize(
    ("name", "codec"), [("a.avi", "mpeg4"), ("a.wmv", "wmv2"), ("a.flv", "flv1")]
)
def test_a_truncated_file_is_refused(up, tmp_path, name, codec):
    source = clip_of(tmp_path / name, codec, frames=list(noise(6)))
    whole = source.read_bytes()
    for share in (5, 9):
        source.write_bytes(whole[: len(whole) * share // 10])
        assert "truncated" in refused(up, source, tmp_path / "out.mp4")


def test_an_avi_whose_recorder_was_stopped(up, tmp_path):
    """The sizes in the header are 0, and the index is missing."""
    source = clip_of(tmp_path / "a.avi", "mpeg4")
    data = bytearray(source.read_bytes())
    data = data[: data.rindex(b"idx1")]
    data[4:8] = bytes(4)
    source.write_bytes(data)
    upscale_video(up, source, tmp_path / "out.mp4")
    assert len(read_clip(tmp_path / "out.mp4").frames) == 6


def test_sound_that_mp4_cannot_hold_names_the_command(up, tmp_path):
    source = clip_of(tmp_path / "a.wmv", "wmv2", "wmav2")
    message = refused(up, source, tmp_path / "out.mp4")
    assert f".mp4 cannot hold the sound of {source} (wmav2), convert it first: ffmpeg -i" in message


@pytest.mark.parametrize(
    "content",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\na.ts\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile a.ts\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=video 9 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"></MPD>',
        "http://127.0.0.1:9/a.ts\n",
    ],
)
@pytest.mark.parametrize("name", ["list.ts", "list.avi"])
def test_what_leads_to_other_files_is_not_read(up, tmp_path, content, name):
    clip_of(tmp_path / "a.ts", "mpeg2video")
    (tmp_path / name).write_text(content)
    message = refused(up, tmp_path / name, tmp_path / "out.mp4")
    assert f"{name} cannot be decoded" in message


def test_sound_and_images_are_not_called_damaged(up, tmp_path):
    clip = clip_of(tmp_path / "a.mkv", "libx264", "libmp3lame")
    with av.open(str(clip)) as container, av.open(str(tmp_path / "b.mp3"), "w") as sound:
        stream = sound.add_stream_from_template(container.streams.audio[0])
        for packet in container.demux(audio=0):
            if packet.size:
                packet.stream = stream
                sound.mux(packet)
    (tmp_path / "b.mp3").rename(tmp_path / "b.avi")
    with av.open(str(tmp_path / "c.gif"), "w") as gif:
        stream = gif.add_stream("gif", 25)
        stream.width, stream.height, stream.pix_fmt = 24, 16, "rgb8"
        gif.mux([*stream.encode(flat("rgb8", 9)), *stream.encode()])
    (tmp_path / "c.gif").rename(tmp_path / "c.avi")
    for name in ("b.avi", "c.avi"):
        message = refused(up, tmp_path / name, tmp_path / "out.mp4")
        assert "is not supported as video" in message
        assert "damaged" not in message
