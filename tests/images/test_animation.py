"""Animations are read as they are displayed, and written so that they are displayed the same."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hfdn_deploy.errors import InputError
from hfdn_deploy.images import (
    FORMATS,
    Animation,
    Frames,
    decode_image,
    encode_image,
    holds_animation,
    read_header,
    read_image,
    write_animation,
)
from hfdn_deploy.images.metadata import Metadata
from tests.helpers.metadata import XMP

WRITTEN = sorted(suffix for suffix, kind in FORMATS.items() if kind.animated)
MILLISECONDS = (100.0, 20.0, 0.0, 1230.0)


def pictures(channels, colours=4):
    """Return four frames (9, 13, C) of few colours with varying holes; the third is repeated."""
    rng = np.random.default_rng(0)
    palette = rng.integers(0, 256, (colours, 3), np.uint8)
    frames = palette[rng.integers(0, colours, (4, 9, 13))]
    frames[1, 3:] = frames[0, 3:]
    frames[2] = frames[1]
    if channels == 4:
        alpha = rng.choice(np.array([0, 255], np.uint8), (4, 9, 13, 1))
        alpha[2] = alpha[1]
        frames = np.concatenate([frames * (alpha > 0), alpha], axis=3)
    return frames


def written(path, frames, plays=0, milliseconds=MILLISECONDS, **options):
    shape = frames.shape[1:]
    write_animation(path, Frames(shape, milliseconds, plays, iter(frames)), **options)


def shown(frames, milliseconds):
    """Return frames by start time, without repeated and invisible ones, and the total time."""
    timeline, now = {}, 0
    for pixels, duration in zip(frames, milliseconds, strict=True):
        timeline[now] = pixels
        now += duration
    unique, last = {}, None
    for start, pixels in timeline.items():
        if last is None or not np.array_equal(pixels, last):
            unique[start] = last = pixels
    return unique, round(now)


def visible(pixels):
    return pixels if pixels.shape[2] == 3 else pixels * (pixels[..., 3:] > 0)


@pytest.mark.parametrize("suffix", WRITTEN)
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("plays", [0, 1, 3])
def test_what_is_written_is_shown(tmp_path, suffix, channels, plays):
    path, frames = tmp_path / f"a{suffix}", pictures(channels)
    written(path, frames, plays)
    with Animation(path) as animation:
        assert animation.plays == plays
        again = animation.frames()
        assert again.shape == (9, 13, channels)
        timeline, total = shown(map(visible, again.pixels), animation.milliseconds)
    expected, whole = shown(frames, MILLISECONDS)
    assert total == whole
    assert list(timeline) == list(expected)
    for start, pixels in expected.items():
        np.testing.assert_array_equal(timeline[start], pixels)
    np.testing.assert_array_equal(visible(read_image(path))[..., :channels], frames[0])


@pytest.mark.parametrize("suffix", WRITTEN)
def test_other_programs_see_the_same(tmp_path, suffix):
    """Pillow alone reads the same frames."""
    path, frames = tmp_path / f"a{suffix}", pictures(3)[[0, 1, 3]]
    written(path, frames, 2, (100.0, 40.0, 70.0))
    with Image.open(path) as image:
        assert image.n_frames == 3
        assert image.info["loop"] == (1 if suffix == ".gif" else 2)
        for number, duration in enumerate((100, 40, 70)):
            image.seek(number)
            image.load()
            assert image.info["duration"] == duration
            np.testing.assert_array_equal(np.asarray(image.convert("RGB")), frames[number])


def gif(frames, disposal, **options):
    """Return a GIF made by Pillow, with frames that cover part of the canvas."""
    file = io.BytesIO()
    images = [Image.fromarray(frame) for frame in frames]
    images[0].save(
        file, "GIF", save_all=True, append_images=images[1:], disposal=disposal,
        duration=[int(duration) for duration in MILLISECONDS], **options,
    )  # fmt: skip
    return file.getvalue()


@pytest.mark.parametrize("disposal", [0, 1, 2, 3])
@pytest.mark.parametrize("suffix", WRITTEN)
def test_a_gif_of_any_disposal(tmp_path, disposal, suffix):
    (tmp_path / "a.gif").write_bytes(gif(pictures(4), disposal))
    with Image.open(tmp_path / "a.gif") as image:
        composed, durations = [], []
        for number in range(image.n_frames):
            image.seek(number)
            composed.append(visible(np.asarray(image.convert("RGBA"))))
            durations.append(image.info.get("duration", 0))
    with Animation(tmp_path / "a.gif") as animation:
        assert animation.plays == 1
        write_animation(tmp_path / f"b{suffix}", animation.frames())
    with Animation(tmp_path / f"b{suffix}") as animation:
        again, total = shown(map(visible, animation.frames().pixels), animation.milliseconds)
    expected, whole = shown(composed, durations)
    assert (total, list(again)) == (whole, list(expected))
    for start, pixels in expected.items():
        np.testing.assert_array_equal(again[start], pixels[..., : again[start].shape[2]])


def test_an_image_for_programs_without_animations_is_no_frame(tmp_path):
    frames = [Image.fromarray(frame) for frame in pictures(3)]
    frames[0].save(
        tmp_path / "a.png", save_all=True, append_images=frames[1:], default_image=True,
        duration=50, loop=4,
    )  # fmt: skip
    with Animation(tmp_path / "a.png") as animation:
        again = list(animation.frames().pixels)
        assert (animation.plays, sum(animation.milliseconds)) == (4, 150)
    np.testing.assert_array_equal(again[0], np.asarray(frames[1]))
    np.testing.assert_array_equal(again[-1], np.asarray(frames[3]))


def test_durations_add_up(tmp_path):
    """GIF stores durations in hundredths of a second."""
    milliseconds = (33.3,) * 30
    frames = np.repeat(pictures(3), 8, axis=0)[:30]
    written(tmp_path / "a.gif", frames, milliseconds=milliseconds)
    with Animation(tmp_path / "a.gif") as animation:
        assert sum(animation.milliseconds) == 1000
        assert set(animation.milliseconds) == {30, 40}


def test_metadata_and_quality(tmp_path):
    frames = pictures(3)
    written(tmp_path / "a.webp", frames, metadata=Metadata(xmp=XMP), quality=1)
    written(tmp_path / "a.png", frames, metadata=Metadata(xmp=XMP))
    assert read_header(tmp_path / "a.webp").metadata.xmp == XMP
    assert read_header(tmp_path / "a.png").metadata.xmp == XMP
    with Animation(tmp_path / "a.webp") as animation:
        assert not np.array_equal(next(animation.frames().pixels), frames[0])


def test_frames_are_taken_one_at_a_time(tmp_path):
    """Writing frame by frame holds only one frame."""
    alive = []

    def make():
        for number, frame in enumerate(pictures(3)):
            alive.append(number)
            yield frame
            assert alive == [number]
            alive.clear()

    for suffix in WRITTEN:
        shape = (9, 13, 3)
        write_animation(tmp_path / f"a{suffix}", Frames(shape, MILLISECONDS, 0, make()))
        alive.clear()


@pytest.mark.parametrize("suffix", WRITTEN)
def test_damage_in_a_later_frame_is_found_before_any_is_taken(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    written(path, pictures(3, colours=200)[[0, 1, 3]], milliseconds=(10.0, 20.0, 30.0))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) - 100])
    with pytest.raises(InputError, match=r"truncated or damaged"):
        Animation(path)


def test_what_memory_does_not_hold_is_refused(tmp_path, monkeypatch):
    written(tmp_path / "a.gif", pictures(3))
    monkeypatch.setattr("hfdn_deploy.images.reading.free_memory", lambda: 1000)
    with pytest.raises(InputError, match=r"a\.gif needs about .* GiB of memory"):
        Animation(tmp_path / "a.gif")


def test_a_format_without_animations_is_refused(tmp_path):
    assert not holds_animation(tmp_path / "a.jpg")
    with pytest.raises(InputError, match=r"a\.jpg: \.jpg cannot hold an animation; choose \.webp"):
        written(tmp_path / "a.jpg", pictures(3))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_still_gif(channels, photo):
    image = np.dstack([photo, photo[..., 0]])[..., [0, 3] if channels == 2 else range(channels)]
    again = decode_image(encode_image(image.squeeze(), Path("a.gif")), "a.gif")
    if channels in (2, 4):
        hidden = image[..., -1] < 128
        np.testing.assert_array_equal(again[..., 3] == 0, hidden)
        error = np.abs(again[..., :3].astype(int) - image[..., :-1])[~hidden]
    else:
        error = np.abs(again.astype(int) - image)
    assert error.mean() < 6
