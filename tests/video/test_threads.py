"""Concurrent upscaling of a video's frames, with the same result as one at a time."""

from threading import active_count

import numpy as np
import pytest

from hfdn_deploy import Upscaler
from hfdn_deploy.errors import BackendError
from hfdn_deploy.video import upscale_video
from tests.helpers.clips import noise, read_clip, samples, write_clip

pytestmark = pytest.mark.usefixtures("every_core")


def test_frames_are_those_of_one_at_a_time(tmp_path, monkeypatch):
    source = write_clip(tmp_path / "in.mkv", noise(12), sound="libopus")
    monkeypatch.setattr("hfdn_deploy.upscaler.planning.WORTH_PREPARING", 0)
    clips = []
    with Upscaler.load(2, "openvino", "int8") as up:
        plan_many, streams = up.plan_many, up.backend.streams
        for name in ("beside.mkv", "alone.mkv"):
            upscale_video(up, source, tmp_path / name)
            clips.append(read_clip(tmp_path / name))
            assert [fixed.number for fixed in up.backend.session.fixed.values()] == [streams]
            monkeypatch.setattr(up, "plan_many", lambda *asked: (plan_many(*asked)[0], 1))
    beside, alone = clips
    assert beside.times == alone.times
    assert beside.sound == alone.sound
    assert len(beside.frames) == 12
    for one, other in zip(beside.frames, alone.frames, strict=True):
        for plane in range(3):
            np.testing.assert_array_equal(samples(one, plane), samples(other, plane))


def test_an_error_in_the_middle_leaves_no_file_and_no_thread(tmp_path, monkeypatch):
    source = write_clip(tmp_path / "in.mp4", noise(30))
    calls = []
    with Upscaler.load(2, "onnxruntime", "int8") as up:
        before, run = active_count(), up.backend.run

        def fail(lr):
            calls.append(lr)
            if len(calls) == 5:
                raise BackendError("on purpose")
            return run(lr)

        monkeypatch.setattr(up.backend, "run", fail)
        with pytest.raises(BackendError, match="on purpose"):
            upscale_video(up, source, tmp_path / "out.mp4")
        assert active_count() == before
    assert len(calls) < 15
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]
