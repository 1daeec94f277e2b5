"""Upscaling an animation, frame by frame."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfdn_deploy.atomic import check_writable
from hfdn_deploy.errors import InputError, named
from hfdn_deploy.files.writing import Writing
from hfdn_deploy.images import (
    Animation,
    Frames,
    Image,
    holds_animation,
    read_header,
    write_animation,
)
from hfdn_deploy.tiling import Progress
from hfdn_deploy.upscaler import Upscaler, mapped
from hfdn_deploy.video import is_video, write_frames

if TYPE_CHECKING:
    from hfdn_deploy.files.planning import Job


# Milliseconds for a frame without a duration, as in browsers; a video needs one.
_UNSAID = 100


def is_animation(source: Path, target: Path) -> bool:
    """Return whether an input has several frames and its output can hold them."""
    if not (holds_animation(target) or is_video(target)):
        return False
    try:
        return read_header(source).animated
    except InputError:  # reading the file raises it again
        return False


def upscale_animation(
    up: Upscaler, job: "Job", writing: Writing, progress: Progress | None = None
) -> dict[str, Any]:
    """Upscale all frames, with one frame more in memory than threads, except in WebP's encoder.

    A video plays the animation once; a frame without a duration lasts a tenth of a second.

    Args:
        up: the upscaler.
        job: an animation, by `is_animation`.
        writing: how the output is written.
        progress: called after each frame.

    Returns:
        Facts for `Done`.

    Raises:
        InputError: a frame of the input is damaged, the output's format cannot hold the result,
            or the output exists.
        BackendError: the backend failed.
    """
    start = time.perf_counter()
    check_writable(job.target, overwrite=job.overwrite)
    with Animation(job.source) as animation:
        frames = animation.frames()
        with named(job.source):
            number = len(frames.milliseconds)
            plan, threads = up.plan_many(frames.shape, "uint8", number)
        height, width = plan.size
        shape = (height, width, frames.shape[2])

        def upscaled(pixels: Image) -> Image:
            with named(job.source):
                return up.stream(pixels, plan).whole()

        with mapped(upscaled, frames.pixels, threads) as results:
            counted = _counted(results, number, progress)
            large = replace(frames, shape=shape, pixels=counted)
            if is_video(job.target):
                size, timed = (height, width), _timed(large)
                write_frames(job.target, timed, size, writing.video, overwrite=job.overwrite)
            else:
                metadata = writing.kept(animation.header.metadata)
                write_animation(
                    job.target, large, metadata, writing.quality, overwrite=job.overwrite
                )
    return {
        "width": width,
        "height": height,
        "seconds": time.perf_counter() - start,
        "frames": number,
        "tile": plan.side,
    }


def _counted(images: Iterable[Image], number: int, progress: Progress | None) -> Iterator[Image]:
    for done, image in enumerate(images, 1):
        if progress:
            progress(done, number)
        yield image


def _timed(frames: Frames) -> Iterator[tuple[Image, Fraction]]:
    """Yield each frame with its duration in seconds."""
    for pixels, milliseconds in zip(frames.pixels, frames.milliseconds, strict=True):
        yield pixels, Fraction(milliseconds or _UNSAID) / 1000
