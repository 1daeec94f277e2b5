"""Damaged videos: each is upscaled, or refused with an HFDNError."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfdn_deploy import Upscaler
from hfdn_deploy.cli import describe
from hfdn_deploy.errors import HFDNError
from hfdn_deploy.video import upscale_video
from tests.helpers.clips import noise, read_clip, write_clip
from tests.helpers.mutations import damaged
from tests.helpers.profiles import fuzz

pytest.importorskip("av")

KINDS = [
    ("a.avi", "mpeg4", "libmp3lame"),
    ("b.avi", "ffv1", None),
    ("a.wmv", "wmv2", None),
    ("a.ts", "mpeg2video", "mp2"),
    ("b.ts", "libx264", "aac"),
    ("a.mpg", "mpeg1video", None),
    ("a.flv", "flv1", None),
    ("b.flv", "libx264", None),
    ("a.mp4", "libx264", "aac"),
    ("a.mkv", "ffv1", None),
    ("a.webm", "libvpx-vp9", "libopus"),
    ("a.ogv", "libvpx", None),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("videos")


@pytest.fixture(scope="module")
def up():
    with Upscaler.load(2, precision="int8", tile=None) as upscaler:
        yield upscaler


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """Return an intact file of every kind."""
    folder = tmp_path_factory.mktemp("seeds")
    return [
        write_clip(folder / name, noise(3), sound=sound, codec=codec).read_bytes()
        for name, codec, sound in KINDS
    ]


@fuzz(3000)
@given(data=st.data())
def test_any_file_is_upscaled_or_refused(data, seeds, folder, up):
    source, target = folder / "in.mp4", folder / "out.mkv"
    source.write_bytes(data.draw(damaged(seeds)))
    target.unlink(missing_ok=True)
    with suppress(HFDNError):
        describe(source)
    try:
        report = upscale_video(up, source, target)
    except HFDNError:
        assert [path.name for path in folder.iterdir()] == ["in.mp4"]
        return
    assert len(read_clip(target).frames) == report["frames"]
