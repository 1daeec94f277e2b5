import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from fractions import Fraction

import av
import numpy as np
import pytest
from tqdm import TMonitor

from hfdn_deploy.cli import main
from hfdn_deploy.colour import split
from hfdn_deploy.errors import BackendError, InputError
from hfdn_deploy.upscaler import Upscaler
from hfdn_deploy.video import upscale_video
from hfdn_deploy.video.overlap import overlapped
from hfdn_deploy.video.planes import LAYOUTS, luma_from_network, luma_to_network, upscale_chroma
from tests.clips import flat, make_frame, noise, read_clip, samples, write_clip

FULL, STUDIO = 2, 1


@pytest.fixture(scope="module")
def up():
    with Upscaler.load(2, precision="int8") as upscaler:
        yield upscaler


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = threading.enumerate()
    yield
    # tqdm keeps one of its own.
    assert not [t for t in threading.enumerate() if t not in before and not isinstance(t, TMonitor)]


def test_overlapped_keeps_order_and_stays_within_its_depth():
    produced = []
    taken = 0

    def produce():
        for number in range(50):
            produced.append(number)
            assert len(produced) - taken <= 5
            yield number

    with overlapped(produce(), 3) as numbers:
        for number in numbers:
            assert number == taken
            taken += 1
    assert taken == 50


def test_overlapped_passes_errors_on_and_stops_when_left():
    def fail():
        yield 1
        raise InputError("on purpose")

    with overlapped(fail(), 1) as numbers:
        assert next(numbers) == 1
        with pytest.raises(InputError, match="on purpose"):
            next(numbers)

    endless = iter(int, 1)
    with (
        pytest.raises(KeyboardInterrupt),
        overlapped(endless, 1) as first,
        overlapped(first, 1) as second,
    ):
        next(second)
        raise KeyboardInterrupt


@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("full", [False, True])
def test_luma_survives_the_way_to_the_network_and_back(bits, full):
    codes = np.arange(2**bits, dtype=np.uint8 if bits == 8 else np.uint16)[None]
    luma = luma_to_network(codes, bits, full)
    assert np.array_equal(luma_from_network(luma, bits, full), codes)
    black, white = (0, 2**bits - 1) if full else (16 << (bits - 8), 235 << (bits - 8))
    assert luma[0, [black, white]] == pytest.approx([16 / 255, 235 / 255], abs=1e-6)


def reference_chroma(plane, shape, scale, subsampling, siting):
    """Cubic convolution (a = -0.75), one axis after the other, from positions in luma pixels."""
    result = plane.astype(float)
    for axis, (length, factor, offset) in enumerate(zip(shape, subsampling, siting, strict=True)):
        in_large_luma = factor * np.arange(length) + offset
        in_small_luma = (in_large_luma + 0.5) / scale - 0.5
        position = (in_small_luma - offset) / factor
        left = np.floor(position).astype(int) - 1
        total = 0
        for tap in range(4):
            x = np.abs(position - left - tap)
            a = -0.75
            near, far = (
                ((a + 2) * x - (a + 3)) * x * x + 1,
                ((a * x - 5 * a) * x + 8 * a) * x - 4 * a,
            )
            weight = np.where(x <= 1, near, far)
            index = (left + tap).clip(0, result.shape[axis] - 1)
            shaped = weight[:, None] if axis == 0 else weight
            total = total + shaped * np.take(result, index, axis)
        result = total
    return result


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("format", ["yuv420p", "yuv422p10le", "yuv444p"])
def test_chroma_lies_where_its_luma_lies(format, scale, photo):
    layout = LAYOUTS[format]
    across, down = layout.subsampling
    unit = 1 << (layout.bits - 8)
    plane = (photo[:30, :41, 0].astype(np.uint16) * unit).astype(layout.dtype)
    shape = (scale * plane.shape[0], scale * plane.shape[1] - 1)
    found = upscale_chroma(plane, shape, scale, layout).astype(float)
    # On the left of its luma samples, vertically between them.
    siting = ((down - 1) / 2, 0)
    expected = reference_chroma(plane, shape, scale, (down, across), siting)
    expected = expected.round().clip(0, 255 * unit)
    assert np.abs(found - expected).max() <= 2 * unit
    assert np.abs(found - expected).mean() < 0.2 * unit
    if across == 2:
        between = reference_chroma(plane, shape, scale, (down, across), ((down - 1) / 2, 0.5))
        assert np.abs(found - between).mean() > 2 * np.abs(found - expected).mean()


def test_everything_beside_the_pixels_is_kept(up, tmp_path):
    """Times (variable, not from 0), their base, sound, rotation, colour, shape of the pixels."""
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
    tolerance = 4 if ten_bits else 1
    for index, value in enumerate([luma, chroma, chroma][: len(after.planes)]):
        level = samples(after, index).astype(int)
        assert level.shape == tuple(2 * side for side in samples(before, index).shape)
        assert np.abs(level - value).max() <= tolerance


@pytest.mark.parametrize(("format", "luma"), [("gray", 77), ("gray10le", 300)])
def test_grey_stays_grey(up, tmp_path, format, luma):
    source = write_clip(tmp_path / "in.mkv", [flat(format, luma)] * 2, codec="ffv1")
    upscale_video(up, source, tmp_path / "out.mp4")
    frame = read_clip(tmp_path / "out.mp4").frames[0]
    assert np.abs(samples(frame, 0).astype(int) - luma).max() <= (1 if format == "gray" else 4)
    # What the decoder adds.
    assert (samples(frame, 1) == (128 if format == "gray" else 512)).all()
    assert "libvpx-vp9 cannot hold gray" in refused(up, source, tmp_path / "out.webm")


def test_frames_are_what_the_upscaler_makes_of_their_luma(up, tmp_path, photo):
    luma = np.rint(255 * split(photo[:48, :64]).luma).astype(np.uint8)
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
    assert main([*arguments, "--json"]) == 0
    (record,) = json.loads(capsys.readouterr().out)["images"]
    assert (record["frames"], record["width"], record["height"]) == (2, 48, 32)
    assert len(read_clip(tmp_path / "out" / "big.mkv").frames) == 2


def refused(up, source, target, error=InputError):
    """The sentence it is refused with; nothing is left."""
    before = {path: path.read_bytes() for path in target.parent.rglob("*")}
    with pytest.raises(error) as caught:
        upscale_video(up, source, target)
    assert {path: path.read_bytes() for path in target.parent.rglob("*")} == before
    return str(caught.value)


def test_what_cannot_be_upscaled_is_refused(up, tmp_path):
    out = tmp_path / "out.mp4"
    clip = write_clip(tmp_path / "sound.mp4", noise(2), sound="aac")
    assert "cannot hold the sound" in refused(up, clip, tmp_path / "out.webm")
    assert "overwrite itself" in refused(up, clip, clip)
    assert "no video format '.avi'" in refused(up, clip, tmp_path / "out.avi")
    assert "No such file" in refused(up, tmp_path / "missing.mp4", out)
    (tmp_path / "text.mp4").write_text("no video")
    assert "cannot be decoded" in refused(up, tmp_path / "text.mp4", out)
    (tmp_path / "empty.mp4").touch()
    assert "cannot be decoded" in refused(up, tmp_path / "empty.mp4", out)
    (tmp_path / "list.mp4").write_text(f"ffconcat version 1.0\nfile {clip.name}\n")
    assert "cannot be decoded" in refused(up, tmp_path / "list.mp4", out)
    rgb = write_clip(tmp_path / "rgb.webm", [flat("gbrp", 9, 9)] * 2, colorspace=0)
    assert "holds gbrp frames" in refused(up, rgb, out)
    fields = write_clip(tmp_path / "fields.mp4", noise(2), options={"x264-params": "tff=1"})
    assert "interlaced" in refused(up, fields, out)
    with av.open(str(tmp_path / "mute.mp4"), "w") as container:
        audio = container.add_stream("aac", 48000)
        block = av.AudioFrame.from_ndarray(np.zeros((2, 960), np.float32), "fltp", "stereo")
        block.sample_rate = 48000
        container.mux(audio.encode(block))
        container.mux(audio.encode())
    assert "holds no video" in refused(up, tmp_path / "mute.mp4", out)


def test_an_odd_size_that_h264_cannot_hold(tmp_path):
    source = write_clip(tmp_path / "odd.webm", [flat("yuv420p", 90, size=(9, 7))] * 2)
    with Upscaler.load(3, precision="int8") as up:
        assert "needs even sizes" in refused(up, source, tmp_path / "out.mp4")
        upscale_video(up, source, tmp_path / "out.webm")
    frame = read_clip(tmp_path / "out.webm").frames[0]
    assert (frame.width, frame.height) == (21, 27)
    assert samples(frame, 1).shape == (14, 11)


def test_frames_that_change_their_size_are_refused(up, tmp_path):
    path = tmp_path / "in.webm"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libvpx-vp9", 25)
        video.width, video.height, video.pix_fmt = 24, 16, "yuv420p"
        other = av.CodecContext.create("libvpx-vp9", "w")
        other.width, other.height, other.pix_fmt = 32, 16, "yuv420p"
        other.time_base = Fraction(1, 25)
        for index, (encoder, width) in enumerate([(video, 24), (other, 32)]):
            frame = flat("yuv420p", 90, size=(16, width))
            frame.pts, frame.time_base = index, Fraction(1, 25)
            for packet in [*encoder.encode(frame), *encoder.encode()]:
                packet.stream = video
                container.mux(packet)
    assert "changes from 24×16 yuv420p to 32×16" in refused(up, path, tmp_path / "out.webm")


def test_titles_that_are_not_utf_8_are_kept(up, tmp_path):
    path = write_clip(tmp_path / "in.mkv", noise(2))
    data = path.read_bytes()
    assert b"a clip" in data
    path.write_bytes(data.replace(b"a clip", b"M\xe4rche"))
    upscale_video(up, path, tmp_path / "out.mkv")
    assert b"M\xe4rche" in (tmp_path / "out.mkv").read_bytes()


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
        [sys.executable, "-m", "hfdn_deploy.cli", "upscale", *arguments],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        preexec_fn=before,
    )


def test_interruption_leaves_no_output(tmp_path):
    write_clip(tmp_path / "in.mp4", noise(300))
    # A shell in the background has its children ignore ctrl-C.
    process = start(
        tmp_path, "in.mp4", "-o", "out.mp4", "--scale", "2",
        before=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    while not list(tmp_path.glob(".*.mp4")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    rest = process.communicate()[1]
    assert process.returncode == 130
    assert "interrupted" in rest
    assert "Traceback" not in rest
    assert [p.name for p in tmp_path.rglob("*")] == ["in.mp4"]


def test_a_full_disk_leaves_no_output(tmp_path):
    write_clip(tmp_path / "in.mp4", noise(4))
    # Files may not grow beyond this.
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
