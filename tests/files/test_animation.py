import numpy as np
import pytest

from hfdn_deploy import InputError, Upscaler
from hfdn_deploy.files import Done, Failed, Job, plan_jobs, run_jobs
from hfdn_deploy.images import (
    Animation,
    Frames,
    read_header,
    read_image,
    write_animation,
    write_image,
)

MILLISECONDS = (100.0, 40.0, 70.0)


@pytest.fixture
def animation(tmp_path, photo):
    """A GIF of three frames (8, 9), transparent in a corner."""
    frames = np.stack([photo[top : top + 8, :9] for top in (0, 8, 16)])
    alpha = np.full((3, 8, 9, 1), 255, np.uint8)
    alpha[:, :3, :3] = 0
    frames = np.concatenate([frames, alpha], axis=3)
    write_animation(tmp_path / "a.gif", Frames((8, 9, 4), MILLISECONDS, 3, iter(frames)))
    return tmp_path / "a.gif"


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_all_frames_of_an_animation(tmp_path, animation, bundle, suffix, caplog):
    target = tmp_path / "out" / f"a{suffix}"
    seen = []
    with Upscaler.load(bundle) as up:
        (result,) = run_jobs(up, [Job(animation, target)], progress=lambda *now: seen.append(now))
        with Animation(animation) as before:
            expected = [up(frame) for frame in before.frames().pixels]
    assert isinstance(result, Done)
    assert (result.width, result.height, result.frames) == (36, 32, 3)
    assert seen == [(Job(animation, target), done, 3) for done in (1, 2, 3)]
    with Animation(target) as after:
        assert (after.milliseconds, after.plays, after.shape) == (MILLISECONDS, 3, (32, 36, 4))
        for one, other in zip(after.frames().pixels, expected, strict=True):
            if suffix == ".gif":
                np.testing.assert_array_equal(one[..., 3] > 0, other[..., 3] >= 128)
                continue
            np.testing.assert_array_equal(one[..., 3], other[..., 3])
            hidden = other[..., 3:] == 0
            np.testing.assert_array_equal(one * ~hidden, other * ~hidden)
    assert not [message for message in caplog.messages if "only the first" in message]


def test_an_animation_becomes_a_video(tmp_path, animation, bundle, caplog):
    av = pytest.importorskip("av")
    target = tmp_path / "a.mkv"
    jobs, _ = plan_jobs([str(animation)], str(target))
    with Upscaler.load(bundle) as up:
        (result,) = run_jobs(up, jobs)
        with Animation(animation) as before:
            expected = [up(frame) for frame in before.frames().pixels]
    assert isinstance(result, Done)
    assert (result.width, result.height, result.frames) == (36, 32, 3)
    assert f"{target}: transparency is not kept; the background is white." in caplog.messages
    with av.open(target) as container:
        frames = list(container.decode(video=0))
        assert [round(frame.time * 1000) for frame in frames] == [0, 100, 140]
        for frame, image in zip(frames, expected, strict=True):
            opaque = image[..., 3] == 255
            error = np.abs(frame.to_ndarray(format="rgb24").astype(int) - image[..., :3])
            assert error[opaque].mean() < 12


def test_a_still_gif_becomes_no_video(tmp_path, photo):
    write_image(tmp_path / "a.gif", photo)
    with pytest.raises(InputError, match=r"a\.gif is not a video, so .*a\.mp4 must be an image"):
        plan_jobs([str(tmp_path / "a.gif")], str(tmp_path / "a.mp4"))


def test_the_first_frame_where_the_output_holds_no_others(tmp_path, animation, bundle, caplog):
    with Upscaler.load(bundle) as up:
        (result,) = run_jobs(up, [Job(animation, tmp_path / "a.tif")])
    assert isinstance(result, Done)
    assert read_header(tmp_path / "a.tif").frames == 1
    assert f"{animation}: only the first of its images is read" in caplog.messages


def test_a_bad_animation_does_not_stop_the_others(tmp_path, animation, bundle, photo):
    (tmp_path / "b.gif").write_bytes(animation.read_bytes()[:-60])
    jobs = [Job(tmp_path / f"{name}.gif", tmp_path / f"{name}.webp") for name in "ba"]
    with Upscaler.load(bundle) as up:
        failed, done = run_jobs(up, jobs)
    assert isinstance(done, Done)
    assert isinstance(failed, Failed)
    assert "b.gif is truncated or damaged" in str(failed.error)
    assert not (tmp_path / "b.webp").exists()
    assert read_image(tmp_path / "a.webp").shape == (32, 36, 4)
