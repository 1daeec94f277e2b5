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


# Browsers show a frame so long that says 0; a video has no such frames.
_UNSAID = 100


def is_animation(source: Path, target: Path) -> bool:
    """Whether all frames of an image file are upscaled: it has several, and the target can."""
    if not (holds_animation(target) or is_video(target)):
        return False
    try:
        return read_header(source).animated
    except InputError:  # which is found again when it is read
        return False


def upscale_animation(
    up: Upscaler, job: "Job", writing: Writing, progress: Progress | None = None
) -> dict[str, Any]:
    """Upscale all frames; but for WebP's encoder, one more is in memory than there are threads.

    A video shows it once, a frame without a duration for a tenth of a second.

    Args:
        up: runs.
        job: for which `is_animation` holds.
        writing: how the output is written.
        progress: called after each frame.

    Returns:
        Facts for `Done`.

    Raises:
        InputError: the input is damaged in any frame, the output cannot hold the result, or is
            there.
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
    """Frames with their seconds."""
    for pixels, milliseconds in zip(frames.pixels, frames.milliseconds, strict=True):
        yield pixels, Fraction(milliseconds or _UNSAID) / 1000
