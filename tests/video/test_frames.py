from fractions import Fraction

import numpy as np
import pytest

from hfdn_deploy.errors import InputError
from hfdn_deploy.video import VideoOptions, write_frames
from tests.helpers.clips import read_clip

SRGB = 13
RGB = [(200, 40, 40), (40, 180, 60), (50, 60, 220), (250, 250, 250), (5, 5, 5)]


def animation(size, seconds, channels=3):
    """Yield single-coloured frames with their durations in seconds."""
    for index, duration in enumerate(seconds):
        frame = np.full((*size, channels), 255, np.uint8)
        frame[..., :3] = RGB[index % len(RGB)]
        yield frame, Fraction(duration)


def shown(frame):
    """Return the RGB colour in the middle of a frame, by its colour tags: (3,) uint8."""
    rgb = frame.reformat(format="rgb24", src_colorspace=frame.colorspace).to_ndarray()
    return rgb[rgb.shape[0] // 2, rgb.shape[1] // 2]


@pytest.mark.parametrize(
    ("name", "codec", "read"),
    [
        ("a.mp4", None, "h264"),
        ("a.mov", "hevc", "hevc"),
        ("a.mp4", "av1", "libdav1d"),
        ("a.mkv", "vp9", "vp9"),
        ("a.webm", None, "vp9"),
        ("a.webm", "av1", "libdav1d"),
    ],
)
@pytest.mark.parametrize("size", [(64, 80), (578, 64)])
def test_colours_and_durations_are_kept(tmp_path, capfd, name, codec, read, size):
    """Times are exact in MP4, within 0.5 ms in Matroska; the last frame keeps its duration."""
    seconds = ["0.07", "1/30", "0.5", "0.02", "1.25"]
    path = tmp_path / name
    assert write_frames(path, animation(size, seconds), size, VideoOptions(codec=codec)) == 5
    # The encoders print nothing.
    assert capfd.readouterr() == ("", "")
    clip = read_clip(path)
    assert clip.video["codec"] == read
    base = clip.video["time_base"]
    starts = [sum(map(Fraction, seconds[:index])) for index in range(5)]
    exact = path.suffix in (".mp4", ".mov")
    tolerance = 0 if exact else Fraction(1, 2000)
    for time, start in zip(clip.times, starts, strict=True):
        assert abs(time * base - start) <= tolerance
    last = clip.times[-1] * base + Fraction("1.25")
    assert clip.seconds == pytest.approx(float(last), abs=0.002)
    for frame, expected in zip(clip.frames, RGB, strict=True):
        assert (frame.height, frame.width, frame.format.name) == (*size, "yuv420p")
        tags = (frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range)
        assert tags == (1 if size[0] > 576 else 6, 1, SRGB, 1)
        assert np.abs(shown(frame).astype(int) - expected).max() <= 4


@pytest.mark.parametrize(
    ("name", "codec", "format"),
    [("a.mp4", "h264", "yuv444p"), ("a.mp4", "hevc", "yuv444p"), ("a.webm", "vp9", "yuv420p")],
)
def test_odd_sizes(tmp_path, caplog, name, codec, format):
    path = tmp_path / name
    size = (69, 75)
    write_frames(path, animation(size, ["0.1"] * 2), size, VideoOptions(codec=codec))
    frame = read_clip(path).frames[1]
    assert (frame.height, frame.width, frame.format.name) == (*size, format)
    assert np.abs(shown(frame).astype(int) - RGB[1]).max() <= 4
    assert ("75×69 is odd" in caplog.text) == (format == "yuv444p")


def test_transparency_becomes_white(tmp_path, caplog):
    frames = list(animation((24, 32), ["0.1"] * 2, channels=4))
    for frame, _ in frames:
        frame[..., 3] = 102
    write_frames(tmp_path / "a.mkv", frames, (24, 32))
    expected = 0.4 * np.array(RGB[0]) + 0.6 * 255
    assert np.abs(shown(read_clip(tmp_path / "a.mkv").frames[0]) - expected).max() <= 4
    assert caplog.text.count("the background is white") == 1


def test_what_fails_leaves_nothing(tmp_path):
    def broken():
        yield from animation((24, 32), ["0.1"])
        raise InputError("frame 2 is damaged.")

    with pytest.raises(InputError, match="frame 2"):
        write_frames(tmp_path / "a.mp4", broken(), (24, 32))
    with pytest.raises(InputError, match="would have no frame"):
        write_frames(tmp_path / "a.mp4", [], (24, 32))
    assert not list(tmp_path.iterdir())
    (tmp_path / "a.mp4").write_bytes(b"old")
    with pytest.raises(InputError, match="already exists"):
        write_frames(tmp_path / "a.mp4", animation((24, 32), ["1"]), (24, 32), overwrite=False)
    assert (tmp_path / "a.mp4").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("a.gif", {}, "video cannot be written as '.gif'"),
        ("a.webm", {"codec": "h264"}, r"\.webm cannot hold H.264; choose .mkv, or .* vp9, av1"),
        ("a.mov", {"codec": "av1"}, r"\.mov cannot hold AV1; choose .mkv, or .* h264, hevc"),
        ("a.mov", {"codec": "vp9"}, r"\.mov cannot hold VP9"),
        ("a.webm", {"codec": "mpeg2"}, "video codec 'mpeg2' is unknown; choose one of h264, hevc"),
        ("a.mp4", {"crf": 52}, "CRF 52 is out of range for H.264; choose 0 to 51"),
        ("a.webm", {"crf": 64}, "CRF 64 is out of range for VP9; choose 0 to 63"),
        ("a.mkv", {"crf": 52, "codec": "hevc"}, "CRF 52 is out of range for HEVC; choose 0 to 51"),
        ("a.mkv", {"crf": 0, "codec": "av1"}, "CRF 0 is out of range for AV1; choose 1 to 63"),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_first_frame(tmp_path, name, options, words):
    def unread():
        pytest.fail("a frame was asked for")
        yield

    with pytest.raises(InputError, match=words):
        write_frames(tmp_path / name, unread(), (24, 32), VideoOptions(**options))
    assert not list(tmp_path.iterdir())


def test_frames_that_are_too_small_for_x265_are_refused(tmp_path):
    """Below 64 pixels, x265 writes outside its buffers."""
    with pytest.raises(InputError, match=r"64×62 is too small for libx265, .* at least 64×64"):
        write_frames(
            tmp_path / "a.mp4", animation((62, 64), ["1"]), (62, 64), VideoOptions(codec="hevc")
        )
    assert not list(tmp_path.iterdir())
