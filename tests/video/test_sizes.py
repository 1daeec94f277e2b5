"""Videos resized to a target size."""

from fractions import Fraction

import av
import numpy as np
import pytest

from hfdn_deploy.images import ImagePlanes, imresize
from hfdn_deploy.options import TargetSize
from hfdn_deploy.video import LAYOUTS, VideoOptions, resize_chroma, upscale_video
from tests.helpers.clips import flat, make_frame, noise, read_clip, samples, write_clip


@pytest.mark.parametrize(
    ("target", "size"),
    [
        (TargetSize(width=36), (24, 36)),
        (TargetSize(scale=1.3), (20, 32)),
        (TargetSize(width=60, height=60), (40, 60)),
        (TargetSize(width=80), (54, 80)),
        (TargetSize(height=12), (12, 18)),
    ],
)
def test_sides_are_even(up, tmp_path, monkeypatch, target, size):
    monkeypatch.setattr(up, "target", target)
    source = write_clip(tmp_path / "in.mp4", noise(2))
    facts = upscale_video(up, source, tmp_path / "out.mp4")
    assert (facts["height"], facts["width"]) == size
    frames = read_clip(tmp_path / "out.mp4").frames
    assert [(frame.height, frame.width) for frame in frames] == [size] * 2


def test_a_turned_video_is_as_wide_as_players_show_it(up, tmp_path, monkeypatch):
    monkeypatch.setattr(up, "target", TargetSize(width=32))
    source = write_clip(tmp_path / "in.mp4", noise(1), rotation=90)
    upscale_video(up, source, tmp_path / "out.mp4")
    (frame,) = read_clip(tmp_path / "out.mp4").frames
    assert (frame.height, frame.width, frame.rotation) == (32, 48, 90)


def test_an_odd_size_is_refused_where_the_format_has_none(up, tmp_path, monkeypatch):
    monkeypatch.setattr(up, "target", TargetSize(width=35))
    source = write_clip(tmp_path / "in.mp4", noise(1))
    with pytest.raises(Exception, match=r"H\.264 cannot encode 35×24 in yuv420p"):
        upscale_video(up, source, tmp_path / "out.mp4")


def test_frames_are_resized_from_what_the_network_makes(up, tmp_path, monkeypatch, photo):
    luma = np.rint(255 * ImagePlanes(photo[:48, :64]).luma).astype(np.uint8)
    chroma = np.full((24, 32), 90, np.uint8)
    source = write_clip(tmp_path / "in.mkv", [make_frame([luma, chroma, chroma])], codec="ffv1")
    monkeypatch.setattr(up, "target", TargetSize(scale=1.5))
    upscale_video(up, source, tmp_path / "out.mp4", options=VideoOptions(crf=10))
    (frame,) = read_clip(tmp_path / "out.mp4").frames
    monkeypatch.setattr(up, "target", TargetSize(scale=2))
    expected = imresize(255 * up.upscale_luma(luma.astype(np.float32) / 255), 0.75)
    error = samples(frame, 0) - expected.clip(0, 255)
    assert 10 * np.log10(255**2 / np.mean(error**2)) > 42
    assert np.abs(samples(frame, 1).astype(int) - 90).max() <= 2


@pytest.mark.parametrize("format", ["yuv420p", "yuv444p"])
@pytest.mark.parametrize("scale", [0.5, 0.75, 1.5])
def test_chroma_of_a_ramp_lies_where_its_luma_lies(format, scale):
    layout = LAYOUTS[format]
    across, _ = layout.subsampling
    ramp = np.tile(np.arange(32, dtype=np.uint8) * 6, (32, 1))
    size = int(32 * scale)
    found = resize_chroma(ramp, (size, size), (scale, scale), layout)
    anchor = 0.5 / across
    expected = ((np.arange(size) + anchor) / scale - anchor) * 6
    assert np.abs(found[5] - expected)[4:-4].max() <= 0.6


def test_the_pixels_keep_their_shape(up, tmp_path, monkeypatch):
    frames = [flat("yuv420p", 90, size=(16, 24))]
    source = write_clip(tmp_path / "in.mp4", frames, sample_aspect_ratio=Fraction(8, 9))
    monkeypatch.setattr(up, "target", TargetSize(height=32))
    upscale_video(up, source, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        video = container.streams.video[0]
        assert (video.width, video.height, video.sample_aspect_ratio) == (48, 32, Fraction(8, 9))
