"""Upscaling an animation, frame by frame."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from hfdn_deploy.atomic import check_vacant
from hfdn_deploy.errors import InputError, named
from hfdn_deploy.files.planning import Job
from hfdn_deploy.files.writing import Writing
from hfdn_deploy.images import (
    Animation,
    Frames,
    Image,
    check_fits,
    holds_animation,
    read_header,
    write_animation,
)
from hfdn_deploy.tiling import Plan
from hfdn_deploy.upscaler import Upscaler


def is_animation(job: Job) -> bool:
    """Whether all frames of a job's input are upscaled: it has several, and its output can."""
    if not holds_animation(job.target):
        return False
    try:
        return read_header(job.source).animated
    except InputError:  # which is found again when it is read
        return False


def upscale_animation(up: Upscaler, job: Job, writing: Writing) -> dict[str, Any]:
    """Upscale all frames; at most one is in memory, before and after, but for WebP's encoder.

    Args:
        up: runs.
        job: for which `is_animation` holds.
        writing: how the output is written.

    Returns:
        Facts for `Done`.

    Raises:
        InputError: the input is damaged in any frame, the output cannot hold the result, or is
            there.
        BackendError: the backend failed.
    """
    start = time.perf_counter()
    check_vacant(job.target, overwrite=job.overwrite)
    with Animation(job.source) as animation:
        frames = animation.frames()
        height, width, channels = frames.shape
        width, height = up.scale * width, up.scale * height
        check_fits(job.target, width, height, channels, "uint8")
        with named(job.source):
            plan = up.plan(frames.shape, "uint8")
        large = replace(
            frames, shape=(height, width, channels), pixels=_upscaled(up, frames, plan, job)
        )
        metadata = animation.header.metadata
        if not writing.keep_metadata:
            metadata = metadata.colour
        write_animation(job.target, large, metadata, writing.quality, overwrite=job.overwrite)
    return {
        "width": width,
        "height": height,
        "seconds": time.perf_counter() - start,
        "frames": len(frames.milliseconds),
        "tile": plan.side,
    }


def _upscaled(up: Upscaler, frames: Frames, plan: Plan, job: Job) -> Iterator[Image]:
    for pixels in frames.pixels:
        with named(job.source):
            yield up.stream(pixels, plan).whole()
