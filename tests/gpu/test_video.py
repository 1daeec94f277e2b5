"""A video on a GPU: frames are copied while others are computed."""

from threading import Barrier

import numpy as np
import pytest

pytest.importorskip("cuda.bindings", reason="the extra rtx is not installed")
pytest.importorskip("av", reason="the extra video is not installed")

from hfdn_deploy import Upscaler
from hfdn_deploy.engines import SLOTS
from hfdn_deploy.video import VideoOptions, upscale_video
from tests.helpers.clips import noise, read_clip, samples, write_clip
from tests.helpers.gpu import skip_without

pytestmark = pytest.mark.gpu
LOSSLESS = VideoOptions(crf=0)


def test_all_slots_are_busy(small_bundles, tmp_path, monkeypatch):
    skip_without("tensorrt")
    source = write_clip(tmp_path / "in.mkv", noise(4 * SLOTS))
    # Each frame waits until `SLOTS` frames are in flight; with fewer threads, it would time out.
    together = Barrier(SLOTS, timeout=60)
    clips = []
    with Upscaler.load(small_bundles[2], "tensorrt", "fp32") as up:
        upscale_video(up, source, tmp_path / "one.mkv", options=LOSSLESS)
        run = up.backend.run

        def meet(lr):
            together.wait()
            return run(lr)

        monkeypatch.setattr(up.backend, "run", meet)
        upscale_video(up, source, tmp_path / "other.mkv", options=LOSSLESS)
        clips = [read_clip(tmp_path / name) for name in ("one.mkv", "other.mkv")]
    with Upscaler.load(small_bundles[2], "onnxruntime", "fp32") as up:
        upscale_video(up, source, tmp_path / "reference.mkv", options=LOSSLESS)
    reference = read_clip(tmp_path / "reference.mkv")
    assert len(reference.frames) == 4 * SLOTS
    for clip in clips:
        assert clip.times == reference.times
        for one, other in zip(clip.frames, reference.frames, strict=True):
            departure = samples(one, 0).astype(int) - samples(other, 0)
            assert np.abs(departure).max() <= 1
