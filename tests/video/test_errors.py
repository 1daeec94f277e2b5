import os
import resource
import shlex
import signal
import subprocess
import sys
import time
from fractions import Fraction

import av
import numpy as np
import pytest

from hfdn_deploy.errors import BackendError, InputError
from hfdn_deploy.files import plan_jobs
from hfdn_deploy.upscaler import Upscaler
from hfdn_deploy.video import VideoOptions, upscale_video
from tests.helpers.clips import flat, noise, read_clip, refused, samples, write_clip
from tests.helpers.disks import room_for, sizes_below


def test_what_cannot_be_upscaled_is_refused(up, tmp_path):
    out = tmp_path / "out.mp4"
    clip = write_clip(tmp_path / "sound.mp4", noise(2), sound="aac")
    assert "cannot hold the sound" in refused(up, clip, tmp_path / "out.webm")
    assert "overwrite itself" in refused(up, clip, clip)
    assert "video cannot be written as '.avi'" in refused(up, clip, tmp_path / "out.avi")
    with pytest.raises(InputError, match=r"in\.png is not a video"):
        plan_jobs([str(tmp_path / "in.png")], str(out))
    assert "missing.mp4: No such file" in refused(up, tmp_path / "missing.mp4", out)
    (tmp_path / "text.mp4").write_text("no video")
    assert "cannot be decoded" in refused(up, tmp_path / "text.mp4", out)
    (tmp_path / "empty.mp4").touch()
    assert "cannot be decoded" in refused(up, tmp_path / "empty.mp4", out)
    (tmp_path / "list.mp4").write_text(f"ffconcat version 1.0\nfile {clip.name}\n")
    assert "cannot be decoded" in refused(up, tmp_path / "list.mp4", out)
    clear = write_clip(tmp_path / "it's clear.mkv", [flat("yuva422p", 9)] * 2, codec="ffv1")
    convert = refused(up, clear, out).partition(": ")[2]
    assert convert.startswith("ffmpeg -i ")
    assert shlex.split(convert)[2:6] == [str(clear), "-pix_fmt", "yuv422p", "-c:a"]
    grey = write_clip(tmp_path / "grey.mkv", [flat("gray", 9)] * 2, codec="ffv1")
    assert "libvpx-vp9 cannot encode gray" in refused(up, grey, tmp_path / "out.webm")
    wide = write_clip(tmp_path / "wide.mkv", noise(2), sample_aspect_ratio=Fraction(4, 3))
    assert "not square (4/3)" in refused(up, wide, tmp_path / "out.webm")
    refusal = VideoOptions(deinterlace=False)
    fields = write_clip(tmp_path / "fields.mp4", noise(2), options={"x264-params": "tff=1"})
    assert "interlaced" in refused(up, fields, out, options=refusal)
    told = write_clip(tmp_path / "told.mkv", noise(2), codec="ffv1", field_order=2)
    assert not read_clip(told).frames[0].interlaced_frame
    assert "interlaced" in refused(up, told, out, options=refusal)
    with av.open(str(tmp_path / "mute.mp4"), "w") as container:
        audio = container.add_stream("aac", 48000)
        block = av.AudioFrame.from_ndarray(np.zeros((2, 960), np.float32), "fltp", "stereo")
        block.sample_rate = 48000
        container.mux(audio.encode(block))
        container.mux(audio.encode())
    assert "has no video stream" in refused(up, tmp_path / "mute.mp4", out)


@pytest.mark.parametrize(
    ("sound", "source", "target", "words", "codec"),
    [
        (
            "pcm_mulaw",
            "in.mov",
            "out.mkv",
            "out.mkv: .mkv cannot hold the sound of {} (pcm_mulaw)",
            "libopus",
        ),
        ("libopus", "in.mkv", "out.mov", "if .mov cannot hold the sound of {} (opus)", "aac"),
    ],
)
def test_sound_that_a_container_refuses_is_named(up, tmp_path, sound, source, target, words, codec):
    path = write_clip(tmp_path / source, noise(3), sound=sound)
    sentence = refused(up, path, tmp_path / target)
    assert words.format(path) in sentence
    assert f"convert it first: ffmpeg -i {path} -c:v copy -c:a {codec} converted.mkv" in sentence


def test_what_memory_refuses_is_named(tmp_path):
    clip = write_clip(tmp_path / "in.mp4", noise(2))
    with Upscaler.load(2, max_memory=1) as up:
        assert f"{clip}: " in refused(up, clip, tmp_path / "out.mp4")


def test_an_odd_size_that_h264_cannot_hold(tmp_path):
    source = write_clip(tmp_path / "odd.webm", [flat("yuv420p", 90, size=(9, 7))] * 2)
    with Upscaler.load(3, precision="int8") as up:
        assert "needs even sides" in refused(up, source, tmp_path / "out.mp4")
        upscale_video(up, source, tmp_path / "out.webm")
    frame = read_clip(tmp_path / "out.webm").frames[0]
    assert (frame.width, frame.height) == (21, 27)
    assert samples(frame, 1).shape == (14, 11)


@pytest.mark.parametrize(
    ("codec", "facts", "words"),
    [
        ("libvpx-vp9", {"width": 32}, "from 24×16 yuv420p to 32×16 yuv420p at 0.160 s"),
        ("libvpx-vp9", {"colorspace": 5}, "from matrix 1 to matrix 5 at"),
        ("libvpx-vp9", {"color_range": 2}, "from studio range to full range at"),
        ("mpeg4", {"sample_aspect_ratio": Fraction(4, 3)}, "from pixel shape 1 to pixel shape 4/3"),
        ("mpeg2video", {"color_primaries": 5}, "from primaries 1 to primaries 5 at"),
    ],
)
def test_frames_that_change_their_kind_are_refused(up, tmp_path, codec, facts, words):
    path = tmp_path / "in.mkv"
    same = {"width": 24, "height": 16, "pix_fmt": "yuv420p", "colorspace": 1, "color_primaries": 1}
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, 25)
        other = av.CodecContext.create(codec, "w")
        other.time_base = other.framerate = Fraction(1, 25)
        for name, value in same.items():
            setattr(video, name, value)
            setattr(other, name, facts.get(name, value))
        for name in facts.keys() - same.keys():
            setattr(other, name, facts[name])
        # Threads and decoders that look ahead meet the second kind some frames early.
        for index, encoder in enumerate([video] * 4 + [other] * 4):
            frame = flat("yuv420p", 90, size=(16, encoder.width))
            frame.pts, frame.time_base = index, Fraction(1, 25)
            frame.colorspace, frame.color_primaries = encoder.colorspace, encoder.color_primaries
            frame.color_range = encoder.color_range
            for packet in [*encoder.encode(frame), *(encoder.encode() if index % 4 == 3 else [])]:
                packet.stream = video
                container.mux(packet)
    assert f"changes {words}" in refused(up, path, tmp_path / "out.mkv")


@pytest.mark.parametrize(
    ("name", "muxing"),
    [
        ("a.mp4", {}),  # the index comes last
        ("a.mp4", {"movflags": "faststart"}),
        ("a.mp4", {"movflags": "frag_keyframe+empty_moov"}),
        ("a.mkv", {}),
        ("a.webm", {}),
    ],
)
def test_a_truncated_file_is_refused(up, tmp_path, name, muxing):
    path = write_clip(tmp_path / name, noise(6), muxing=muxing)
    data = path.read_bytes()
    for length in (len(data) * 9 // 10, len(data) // 2, 50):
        path.write_bytes(data[:length])
        assert "truncated" in refused(up, path, tmp_path / f"out{path.suffix}")


def test_damage_in_the_middle_is_an_error_and_the_old_output_stays(up, tmp_path):
    path = write_clip(tmp_path / "in.mkv", noise(12), options={"g": "1"})
    data = bytearray(path.read_bytes())
    data[len(data) * 2 // 3 : len(data) * 2 // 3 + 2000] = bytes(2000)
    path.write_bytes(data)
    (tmp_path / "out.mkv").write_bytes(b"old")
    assert "damaged" in refused(up, path, tmp_path / "out.mkv")


def test_a_failing_network_stops_everything(tmp_path):
    source = write_clip(tmp_path / "in.mp4", noise(30), sound="aac")
    with Upscaler.load(2) as closed:
        pass
    assert "is closed" in refused(closed, source, tmp_path / "out.mp4", BackendError)


def start(folder, *arguments, before=lambda: None):
    return subprocess.Popen(
        [sys.executable, "-m", "hfdn_deploy", "upscale", *arguments],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        # Under a limit of file sizes, Python would keep compiled modules that were cut short.
        env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=before,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_interruption_leaves_no_output(tmp_path, number):
    write_clip(tmp_path / "in.mp4", noise(300))
    process = start(tmp_path, "in.mp4", "-o", "out.mp4", "--scale", "2")
    while not list(tmp_path.glob(".hfdn-*/*.mp4")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    rest = process.communicate()[1]
    assert process.returncode == 130
    assert "interrupted" in rest
    assert "Traceback" not in rest
    assert [p.name for p in tmp_path.rglob("*")] == ["in.mp4"]


def test_a_full_disk_leaves_no_output(tmp_path):
    write_clip(tmp_path / "in.mp4", noise(4))
    # The largest file size, in bytes.
    limit = (1000, 1000)
    process = start(
        tmp_path, "in.mp4", "-o", "out.mp4", "--scale", "2",
        before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
    )  # fmt: skip
    rest = process.communicate()[1]
    assert process.returncode == 2
    assert "error: out.mp4 cannot be written: File too large" in rest
    assert [p.name for p in tmp_path.rglob("*")] == ["in.mp4"]


def test_without_pyav(tmp_path):
    write_clip(tmp_path / "in.mp4", noise(1))
    script = (
        "import sys; sys.modules['av'] = None\n"
        "from hfdn_deploy.cli import main\n"
        "sys.exit(main(['upscale', 'in.mp4', '-o', 'out.mp4']))"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True
    )
    assert run.returncode == 4
    assert "pip install 'hfdn-deploy[video]'" in run.stderr
    assert [p.name for p in tmp_path.rglob("*")] == ["in.mp4"]


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="Linux only")
def test_no_encoder_makes_this_process_real_time(up, tmp_path):
    """SVT-AV1 does so for root, and then nothing else runs on the machine."""

    def policies():
        threads = map(int, os.listdir("/proc/self/task"))  # noqa: PTH208
        return {os.sched_getscheduler(thread) for thread in threads}

    before, during = policies(), []
    source = write_clip(tmp_path / "in.mkv", noise(3, size=(64, 64)))
    options = VideoOptions(codec="av1")
    shown = lambda done, _: during.append(policies())  # noqa: E731
    upscale_video(up, source, tmp_path / "out.mkv", options=options, progress=shown)
    assert during == [before] * 3
    assert policies() == before


def test_a_size_that_the_encoder_refuses_is_told_before_a_frame_is_computed(tmp_path):
    source = write_clip(tmp_path / "in.mkv", [flat("yuv420p", 90, size=(2, 8194))], codec="ffv1")
    with Upscaler.load(2, "onnxruntime", "int8") as up:
        up.backend.run = None
        assert "out.mkv cannot be encoded" in refused(up, source, tmp_path / "out.mkv")


@pytest.mark.parametrize(
    ("suffix", "sound"),
    [(".mp4", "aac"), (".mov", "aac"), (".mkv", "libopus"), (".webm", "libopus")],
)
def test_on_a_disk_that_fills_a_video_is_whole_or_missing(up, tmp_path, suffix, sound):
    source = write_clip(tmp_path / "in.mkv", noise(3), sound=sound)
    target = tmp_path / "out" / f"out{suffix}"
    upscale_video(up, source, target)
    whole = target.stat().st_size
    target.unlink()
    for size in sizes_below(whole, 5):
        with room_for(size):
            assert "cannot be written: File too large" in refused(up, source, target)
        assert not list(target.parent.iterdir()), size
    with room_for(whole):
        upscale_video(up, source, target)
    assert len(read_clip(target).frames) == 3


def test_a_video_that_appears_meanwhile_is_not_overwritten(up, tmp_path):
    source = write_clip(tmp_path / "in.mkv", noise(2))
    target = tmp_path / "out.mkv"
    target.write_bytes(b"of another run")
    with pytest.raises(InputError, match=r"out\.mkv already exists"):
        upscale_video(up, source, target, overwrite=False)
    assert target.read_bytes() == b"of another run"
