import json
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from hfdn_deploy.cli import main
from hfdn_deploy.images import ImagePlanes, write_image
from hfdn_deploy.video import upscale_video
from tests.helpers.clips import cut, flat, make_frame, noise, read_clip, samples, write_clip
from tests.helpers.disks import names_in

FULL, STUDIO = 2, 1


def test_everything_beside_the_pixels_is_kept(up, tmp_path):
    """Times (variable, not from 0), time base, sound, rotation, colour tags, pixel shape."""
    times = [60, 85, 110, 210, 211, 260, 285, 600]
    facts = {"colorspace": 1, "color_primaries": 1, "color_trc": 1, "color_range": STUDIO}
    source = write_clip(
        tmp_path / "in.mp4", noise(8), times, Fraction(1, 600), sound="aac",
        muxing={"video_track_timescale": "600"}, rotation=90,
        sample_aspect_ratio=Fraction(4, 3), **facts,
    )  # fmt: skip
    for target in (tmp_path / "out.mp4", tmp_path / "out.mov"):
        report = upscale_video(up, source, target)
        assert (report["width"], report["height"], report["frames"]) == (48, 32, 8)
        before, after = read_clip(source), read_clip(target)
        assert after.times == before.times == times
        assert after.durations == before.durations
        assert len(after.sound) > 40
        assert after.sound == before.sound
        assert after.video == before.video
        assert after.video["time_base"] == Fraction(1, 600)
        assert after.metadata["title"] == "a clip"
        assert after.languages == before.languages == ["eng"]
        for frame in after.frames:
            assert (frame.width, frame.height, frame.format.name) == (48, 32, "yuv420p")
            assert frame.rotation == 90
            assert {name: getattr(frame, name) for name in facts} == facts


@pytest.mark.parametrize(("suffix", "codec"), [(".mkv", "h264"), (".webm", "vp9")])
def test_other_containers(up, tmp_path, suffix, codec):
    times = [0, 40, 45, 80, 200]
    source = write_clip(
        tmp_path / f"in{suffix}", noise(5), times, Fraction(1, 1000), sound="libopus",
        colorspace=5, color_range=STUDIO,
    )  # fmt: skip
    upscale_video(up, source, tmp_path / f"out{suffix}")
    before, after = read_clip(source), read_clip(tmp_path / f"out{suffix}")
    assert after.times == before.times == times
    assert after.sound == before.sound
    assert after.video["codec"] == codec
    assert (after.frames[0].colorspace, after.frames[0].color_range) == (5, STUDIO)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("segments", [[(0.6, 0.4)], [(0, 0.4), (0.6, 0.4)], [(0.6, 0.4), (0, 0.4)]])
def test_sound_that_edit_lists_hide_is_left_out(up, tmp_path, suffix, segments):
    source = write_clip(tmp_path / "in.mp4", noise(25), sound="aac", options={"g": "5"})
    whole = read_clip(source)
    cut(source, segments)
    target = tmp_path / f"out{suffix}"
    upscale_video(up, source, target)
    before, after = read_clip(source), read_clip(target)
    assert len(after.frames) == len(before.frames) == 10 * len(segments)
    with av.open(str(source)) as container:
        packets = [p for p in container.demux(audio=0) if p.size]
        shown = [bytes(p) for p in packets if not p.is_discard]
    assert len(shown) < len(packets)
    kept = [packet[2] for packet in after.sound]
    # Up to 0.1 s before the first segment is kept for the decoder to start.
    assert kept[-len(shown) :] == shown
    assert len(kept) - len(shown) <= (4 if segments[0][0] else 1)
    assert {packet[2] for packet in whole.sound} >= set(kept)
    # In Matroska, the run-up, if there is one, starts at 0.
    with av.open(str(target)) as container:
        assert container.duration / 1e6 == pytest.approx(0.4 * len(segments), abs=0.13)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_frames_last_until_the_next_whatever_the_order_of_decoding(up, tmp_path, suffix):
    times = [0, 24, 48, 72, 500, 524, 548, 572, 596, 2000, 2024, 2048]
    source = write_clip(
        tmp_path / "in.mp4", noise(12), times, Fraction(1, 600), options={"bf": "3", "qp": "20"},
        muxing={"video_track_timescale": "600"},
    )  # fmt: skip
    before = read_clip(source)
    ends = [time + duration for time, duration in zip(before.times, before.durations, strict=True)]
    assert ends[:-1] != times[1:]
    upscale_video(up, source, tmp_path / f"out{suffix}")
    after = read_clip(tmp_path / f"out{suffix}")
    seconds = [float(time * after.video["time_base"]) for time in after.times]
    assert seconds == pytest.approx([time / 600 for time in times], abs=0.001)
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        assert container.duration / 1e6 == pytest.approx(2048 / 600 + 0.04, abs=0.005)
    if suffix == ".mp4":
        assert after.times == times
        ends = [time + last for time, last in zip(after.times, after.durations, strict=True)]
        assert ends[:-1] == times[1:]


@pytest.mark.parametrize(
    ("format", "full", "luma", "suffix"),
    [
        ("yuv420p", False, 16, ".mp4"),
        ("yuv420p", False, 4, ".mp4"),  # blacker than black
        ("yuv420p", False, 235, ".mkv"),
        ("yuv420p", False, 250, ".mp4"),  # whiter than white
        ("yuv420p", False, 126, ".webm"),
        ("yuvj420p", True, 2, ".mp4"),
        ("yuvj420p", True, 253, ".mov"),
        ("yuv422p", False, 60, ".mp4"),
        ("yuv444p", False, 200, ".webm"),
        ("yuv420p10le", False, 64, ".mp4"),
        ("yuv420p10le", False, 1000, ".mkv"),
        ("yuv422p10le", False, 501, ".mov"),
        ("yuv444p10le", True, 1020, ".mp4"),
    ],
)
def test_a_flat_colour_keeps_its_level(up, tmp_path, format, full, luma, suffix):
    ten_bits = "10le" in format
    chroma = 401 if ten_bits else 100
    tags = {"color_range": FULL} if full else {}
    source = write_clip(tmp_path / f"in{suffix}", [flat(format, luma, chroma)] * 2, **tags)
    upscale_video(up, source, tmp_path / f"out{suffix}")
    before, after = read_clip(source).frames[0], read_clip(tmp_path / f"out{suffix}").frames[0]
    assert after.format.name == before.format.name
    assert after.color_range == before.color_range
    step = 4 if ten_bits else 1
    for index, value in enumerate([luma, chroma, chroma][: len(after.planes)]):
        level = samples(after, index).astype(int)
        assert level.shape == tuple(2 * side for side in samples(before, index).shape)
        assert abs(np.median(level) - value) <= step / 2
        # The network itself changes white slightly at the borders: by up to 1.95 levels at ×2.
        assert np.abs(level - value).max() <= 2.5 * step
        assert np.abs(level - value)[8:-8, 8:-8].max(initial=0) <= step


@pytest.mark.parametrize(("format", "luma"), [("gray", 77), ("gray10le", 300)])
def test_grey_stays_grey(up, tmp_path, format, luma):
    source = write_clip(tmp_path / "in.mkv", [flat(format, luma)] * 2, codec="ffv1")
    upscale_video(up, source, tmp_path / "out.mp4")
    frame = read_clip(tmp_path / "out.mp4").frames[0]
    assert np.abs(samples(frame, 0).astype(int) - luma).max() <= (1 if format == "gray" else 4)
    # The decoder adds neutral chroma.
    assert (samples(frame, 1) == (128 if format == "gray" else 512)).all()


def test_frames_are_what_the_upscaler_makes_of_their_luma(up, tmp_path, photo):
    luma = np.rint(255 * ImagePlanes(photo[:48, :64]).luma).astype(np.uint8)
    neutral = np.full((24, 32), 128, np.uint8)
    source = write_clip(tmp_path / "in.mp4", [make_frame([luma, neutral, neutral])] * 2)
    upscale_video(up, source, tmp_path / "out.mp4")
    expected = 255 * up.upscale_luma(luma.astype(np.float32) / 255)
    for frame in read_clip(tmp_path / "out.mp4").frames:
        error = samples(frame, 0) - expected.clip(0, 255)
        assert 10 * np.log10(255**2 / np.mean(error**2)) > 42


def test_command_line(tmp_path, capsys):
    source = write_clip(tmp_path / "in.mp4", noise(2))
    arguments = ["upscale", str(source), "-o", str(tmp_path / "out" / "big.mkv"), "--scale", "2"]
    assert main([*arguments, "--json", "--tile", "16"]) == 0
    (record,) = json.loads(capsys.readouterr().out)["images"]
    assert (record["frames"], record["width"], record["height"]) == (2, 48, 32)
    assert record["tile"] == 16
    assert len(read_clip(tmp_path / "out" / "big.mkv").frames) == 2


def test_captions_that_are_lost_are_told_once(up, tmp_path, caplog):
    """Closed captions (ATSC A/53) are between the header of an MPEG-2 frame and its slices."""
    captions = b"\x00\x00\x01\xb2GA94\x03\x41\xff\xfc\x94\x2c\xff"
    with av.open(str(tmp_path / "in.mkv"), "w") as container:
        video = container.add_stream("mpeg2video", 25)
        video.width, video.height, video.pix_fmt = 24, 16, "yuv420p"
        for index, frame in enumerate(noise(3)):
            frame.pts, frame.time_base = index, Fraction(1, 25)
            for packet in video.encode(frame):
                data = bytes(packet).replace(b"\x00\x00\x01\x01", captions + b"\x00\x00\x01\x01")
                told = av.Packet(data)
                told.pts, told.dts, told.time_base = packet.pts, packet.dts, packet.time_base
                told.stream, told.is_keyframe = video, packet.is_keyframe
                container.mux(told)
    upscale_video(up, tmp_path / "in.mkv", tmp_path / "out.mkv")
    assert caplog.text.count("metadata cannot be kept: closed captions inside the frames") == 1


def test_attachments_and_cover_pictures(up, tmp_path, caplog):
    """Matroska keeps attachments, such as the fonts of its subtitles."""
    source = tmp_path / "in.mkv"
    with av.open(str(source), "w") as container:
        video = container.add_stream("libx264", 25)
        video.width, video.height, video.pix_fmt = 24, 16, "yuv420p"
        container.add_attachment("a.ttf", "font/ttf", b"a font")
        container.add_attachment(
            "cover.png", "image/png", bytes(cv2.imencode(".png", np.eye(9))[1])
        )
        for index, frame in enumerate(noise(2)):
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode())
    upscale_video(up, source, tmp_path / "out.mkv")
    with av.open(str(tmp_path / "out.mkv")) as container:
        (font,) = container.streams.attachments
        assert (font.name, font.mimetype, font.data) == ("a.ttf", "font/ttf", b"a font")
    assert caplog.messages == [f"{source}: stream 2 (cover image) is left out."]
    upscale_video(up, source, tmp_path / "out.mp4")
    assert f"{source}: stream 1 (attachment) is left out." in caplog.messages


def test_what_names_the_chapters_of_an_mp4_is_not_left_out(up, tmp_path, caplog):
    source = write_clip(tmp_path / "in.mp4", noise(2), chapter="a part")
    with av.open(str(source)) as container:
        assert [stream.type for stream in container.streams] == ["video", "data"]
    upscale_video(up, source, tmp_path / "out.mp4")
    assert not caplog.messages
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [chapter["metadata"] for chapter in container.chapters()] == [{"title": "a part"}]


def test_names_with_a_colon_are_no_addresses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "12:30.mp4", noise(2)).rename("file:one.mp4")
    write_clip(tmp_path / "12:30.mp4", noise(2))
    arguments = ["upscale", "12:30.mp4", "file:one.mp4", "-o", "t:1", "--scale", "2"]
    assert main(arguments) == 0
    assert [f"t:1/{name}" for name in names_in(Path("t:1"))] == [
        "t:1/12:30.mp4",
        "t:1/file:one.mp4",
    ]


def test_without_metadata_sound_and_languages_stay(tmp_path):
    source = write_clip(tmp_path / "in.mkv", noise(2), sound="aac", chapter="a part")
    titles = (b"a clip", b"a sound", b"a part")
    arguments = ["upscale", str(source), "--scale", "2", "-o"]
    for keep, name in [(True, "kept.mkv"), (False, "out.mkv"), (False, "out.mp4")]:
        option = [] if keep else ["--no-keep-metadata"]
        assert main([*arguments, str(tmp_path / name), *option]) == 0
        data = (tmp_path / name).read_bytes()
        assert [title in data for title in titles] == [keep] * 3
        before, after = read_clip(source), read_clip(tmp_path / name)
        assert [packet[2] for packet in after.sound] == [packet[2] for packet in before.sound]
        assert after.languages == ["eng"]


def test_quality_is_for_pictures(tmp_path, caplog):
    write_clip(tmp_path / "in.mkv", noise(2))
    write_image(tmp_path / "in.png", np.zeros((4, 4, 3), np.uint8))
    arguments = ["upscale", str(tmp_path / "in.*"), "-o", str(tmp_path / "out"), "--scale", "2"]
    assert main([*arguments, "--quality", "80"]) == 0
    assert "--quality is ignored for videos" in caplog.text
    assert names_in(tmp_path / "out") == ["in.mkv", "in.png"]


@pytest.mark.parametrize("name", ["out.png", "out.mp4"])
def test_codec_and_crf_are_for_videos(tmp_path, caplog, bundle, name):
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "in.gif", save_all=True, append_images=frames[1:])
    arguments = ["upscale", str(tmp_path / "in.gif"), "-o", str(tmp_path / name)]
    assert main([*arguments, "--model", str(bundle), "--codec", "h264", "--crf", "30"]) == 0
    ignored = "--codec and --crf: only for videos, and ignored for images"
    assert (ignored in caplog.messages) is (name == "out.png")


def test_titles_that_are_not_utf_8_are_kept(up, tmp_path):
    path = write_clip(tmp_path / "in.mkv", noise(2))
    data = path.read_bytes()
    assert b"a clip" in data
    path.write_bytes(data.replace(b"a clip", b"M\xe4rche"))
    upscale_video(up, path, tmp_path / "out.mkv")
    assert b"M\xe4rche" in (tmp_path / "out.mkv").read_bytes()
