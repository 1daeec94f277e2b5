"""Colour tags of results, as players interpret them."""

import av
import numpy as np
import pytest

from hfdn_deploy.video import VideoOptions, upscale_video
from tests.helpers.clips import flat, read_clip, samples, write_clip

FULL, STUDIO = 2, 1


def tags(path):
    frame = read_clip(path).frames[0]
    return frame.colorspace, frame.color_primaries, frame.color_trc


@pytest.mark.parametrize(
    ("size", "given", "expected"),
    [
        # (height, width): SD that becomes HD, by height or by width
        ((300, 8), (2, 2, 2), (6, 1, 6)),
        ((8, 640), (2, 2, 2), (6, 1, 6)),
        ((480, 8), (2, 2, 2), (6, 6, 6)),
        ((486, 8), (2, 2, 2), (6, 6, 6)),
        ((576, 8), (2, 2, 2), (5, 5, 6)),
        ((576, 8), (6, 2, 2), (6, 5, 6)),  # existing tags stay
        ((576, 8), (1, 1, 1), (1, 1, 1)),
        # the limit between SD and HD is not crossed
        ((8, 24), (2, 2, 2), (2, 2, 2)),
        ((288, 8), (2, 2, 2), (2, 2, 2)),
        ((8, 638), (2, 2, 2), (2, 2, 2)),
        ((578, 8), (2, 2, 2), (2, 2, 2)),
    ],
)
def test_an_untagged_video_keeps_the_colours_that_players_show(
    up, tmp_path, caplog, size, given, expected
):
    """Players assume BT.601 up to 1279×576 and BT.709 above (mpv; VLC by the height alone)."""
    names = ("colorspace", "color_primaries", "color_trc")
    frames = [flat("yuv420p", 90, 100, size)] * 2
    source = write_clip(tmp_path / "in.mkv", frames, **dict(zip(names, given, strict=True)))
    assert tags(source) == given
    caplog.set_level("INFO")
    upscale_video(up, source, tmp_path / "out.mp4")
    assert tags(tmp_path / "out.mp4") == expected
    told = [line for line in caplog.messages if "colour tags are missing" in line]
    assert len(told) == (given != expected)
    assert all("the result gets the tags of BT.601" in line for line in told)


@pytest.mark.parametrize("codec", ["h264", "hevc", "vp9", "av1"])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_every_codec_tells_the_colours_and_the_range(up, tmp_path, capfd, codec, suffix):
    given = {"colorspace": 9, "color_primaries": 9, "color_trc": 16, "color_range": FULL}
    source = write_clip(tmp_path / "in.mkv", [flat("yuv420p", 90, size=(32, 32))] * 3, **given)
    options = VideoOptions(codec=codec, crf=10)
    upscale_video(up, source, tmp_path / f"out{suffix}", options=options)
    frame = read_clip(tmp_path / f"out{suffix}").frames[2]
    assert {name: getattr(frame, name) for name in given} == given
    assert np.abs(samples(frame, 0).astype(int) - 90).max() <= 2
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(
    ("format", "result"),
    [
        ("yuv411p", "yuv422p"),
        ("yuv410p", "yuv420p"),
        ("yuv440p", "yuv444p"),
        ("yuv420p16le", "yuv420p10le"),
        ("yuv444p16le", "yuv444p10le"),
    ],
)
def test_other_yuv_becomes_the_nearest(up, tmp_path, caplog, format, result, full):
    deep = format.endswith("16le")
    unit = 256 if deep else 1
    frames = [flat(format, 90 * unit, 100 * unit)] * 2
    facts = {"colorspace": 5, "color_range": FULL if full else STUDIO}
    source = write_clip(tmp_path / "in.mkv", frames, codec="ffv1", **facts)
    upscale_video(up, source, tmp_path / "out.mkv")
    frame = read_clip(tmp_path / "out.mkv").frames[1]
    name = frame.format.name.replace("yuvj", "yuv")
    assert (name, frame.colorspace, frame.color_range) == (result, 5, facts["color_range"])
    for index, value in enumerate((90, 100, 100)):
        level = samples(frame, index).astype(float) / (4 if deep else 1)
        assert np.abs(level - value).max() <= 1.5
    assert caplog.messages == [f"{source}: {format} frames are converted to {result}."]


@pytest.mark.parametrize(
    ("codec", "format", "name"),
    [("rawvideo", "bgr24", "a.avi"), ("ffv1", "bgr0", "a.mkv"), ("libx264rgb", "rgb24", "a.mp4")],
)
@pytest.mark.parametrize("size", [(16, 24), (578, 24)])
def test_rgb_becomes_yuv_of_the_same_colours(up, tmp_path, caplog, codec, format, name, size):
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV lacks {codec}")
    rgb = (200, 60, 90)
    pixels = np.full((*size, 3), rgb, np.uint8)
    frame = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format=format)
    source = write_clip(tmp_path / name, [frame] * 2, codec=codec, options={"qp": "0"})
    upscale_video(up, source, tmp_path / "out.mp4", options=VideoOptions(crf=1))
    frame = read_clip(tmp_path / "out.mp4").frames[1]
    matrix = 1 if size[0] > 576 else 6
    assert frame.format.name == "yuv444p"
    assert (frame.colorspace, frame.color_primaries, frame.color_trc) == (matrix, 1, 13)
    shown = frame.reformat(format="rgb24", src_colorspace=matrix).to_ndarray()
    assert np.abs(shown.astype(int) - rgb).max() <= 4
    assert any("frames are converted to yuv444p." in message for message in caplog.messages)
