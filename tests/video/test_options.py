"""Codec and CRF, from the command line."""

import json

import av
import numpy as np
import pytest

from hfdn_deploy import Upscaler
from hfdn_deploy.cli import main
from hfdn_deploy.errors import BackendError
from hfdn_deploy.video import CODECS, VideoOptions, upscale_video
from tests.helpers.clips import flat, noise, read_clip, refused, samples, write_clip

READ_AS = {"h264": "h264", "hevc": "hevc", "vp9": "vp9", "av1": "libdav1d"}


def command(source, target, *options):
    return main(["upscale", str(source), "-o", str(target), "--scale", "2", *options])


@pytest.mark.parametrize("codec", READ_AS)
def test_codec_and_crf(up, tmp_path, capfd, codec):
    """The higher the CRF, the smaller the file; the encoder prints nothing."""
    source = write_clip(tmp_path / "in.mkv", noise(3, (32, 40)))
    sizes = []
    for crf in (CODECS[codec].crfs[1], None, CODECS[codec].crfs[-1]):
        target = tmp_path / f"{crf}.mp4"
        upscale_video(up, source, target, options=VideoOptions(codec=codec, crf=crf))
        clip = read_clip(target)
        assert (clip.video["codec"], len(clip.frames)) == (READ_AS[codec], 3)
        sizes.append(target.stat().st_size)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 1.5 * sizes[2]
    assert capfd.readouterr() == ("", "")


def test_command_line(up, tmp_path, capsys):
    source = write_clip(tmp_path / "in.avi", noise(3, (32, 40)), codec="mpeg4")
    options = ["--codec", "hevc", "--crf", "40", "--json", "--precision", "int8"]
    assert command(source, tmp_path / "out.mp4", *options) == 0
    (record,) = json.loads(capsys.readouterr().out)["images"]
    assert (record["frames"], record["width"], record["height"]) == (3, 80, 64)
    assert read_clip(tmp_path / "out.mp4").video["codec"] == "hevc"
    upscale_video(up, source, tmp_path / "same.mp4", options=VideoOptions(codec="hevc", crf=40))
    assert (tmp_path / "same.mp4").stat().st_size == (tmp_path / "out.mp4").stat().st_size


@pytest.mark.parametrize(
    ("target", "options", "words"),
    [
        (
            "a.webm",
            ["--codec", "hevc"],
            ".webm cannot hold HEVC; choose .mkv, or one of the codecs vp9",
        ),
        ("a.mov", ["--codec", "av1"], ".mov cannot hold AV1"),
        ("a.mp4", ["--crf", "52"], "CRF 52 is out of range for H.264; choose 0 to 51."),
        ("a.mp4", ["--crf", "-1"], "CRF -1 is out of range for H.264; choose 0 to 51."),
        (
            "a.mp4",
            ["--crf", "64", "--codec", "av1"],
            "CRF 64 is out of range for AV1; choose 1 to 63.",
        ),
        (
            "a.avi",
            [],
            "video cannot be written as '.avi'; choose one of .m4v, .mkv, .mov, .mp4, .webm.",
        ),
    ],
)
def test_what_is_refused_before_anything_is_read(tmp_path, capsys, target, options, words):
    (tmp_path / "in.mp4").write_bytes(b"not looked at")
    assert command(tmp_path / "in.mp4", tmp_path / target, *options) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len([line for line in lines if words in line]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_a_codec_that_is_not_known(tmp_path, capsys):
    with pytest.raises(SystemExit):
        command(tmp_path / "in.mp4", tmp_path / "out.mp4", "--codec", "mpeg2")
    assert "choose from" in capsys.readouterr().err


def test_a_build_without_the_encoder(up, tmp_path, monkeypatch):
    source = write_clip(tmp_path / "in.mkv", noise(2))
    monkeypatch.setattr(av, "codecs_available", av.codecs_available - {"libx265"})
    message = refused(
        up, source, tmp_path / "a.mp4", BackendError, options=VideoOptions(codec="hevc")
    )
    assert "this PyAV lacks libx265, the encoder for HEVC" in message


@pytest.mark.parametrize(
    ("codec", "format", "able"),
    [("av1", "yuv444p", "H.264, HEVC, VP9"), ("vp9", "yuv420p10le", "H.264, HEVC, AV1")],
)
def test_frames_that_a_codec_does_not_hold(up, tmp_path, codec, format, able):
    source = write_clip(tmp_path / "in.mkv", [flat(format, 90)] * 2, codec="ffv1")
    message = refused(up, source, tmp_path / "a.mkv", options=VideoOptions(codec=codec))
    assert f"cannot encode {format} frames; choose .mkv and a codec that can ({able})." in message


def test_odd_sizes_are_held_by_vp9_and_av1(tmp_path):
    source = write_clip(tmp_path / "in.webm", [flat("yuv420p", 90, size=(9, 7))] * 2)
    with Upscaler.load(3, precision="int8") as up:
        for codec in ("vp9", "av1"):
            upscale_video(up, source, tmp_path / "a.mp4", options=VideoOptions(codec=codec))
            frame = read_clip(tmp_path / "a.mp4").frames[1]
            assert (frame.width, frame.height) == (21, 27)
            assert np.abs(samples(frame, 0).astype(int) - 90).max() <= 2
