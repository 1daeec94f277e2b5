"""Video files: every frame upscaled, everything else kept. Needs PyAV (extra: video)."""

import time
from importlib import import_module
from pathlib import Path
from typing import Any

from hfdn_deploy.errors import BackendError, InputError
from hfdn_deploy.upscaler import Upscaler

VIDEO_SUFFIXES = frozenset((".mp4", ".m4v", ".mov", ".mkv", ".webm"))


def is_video(path: Path) -> bool:
    """Whether the suffix names a video format."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def check_video_format(path: Path) -> None:
    """Refuse a path whose suffix names no video format that can be written.

    Raises:
        InputError: so it is.
    """
    if not is_video(path):
        known = ", ".join(sorted(VIDEO_SUFFIXES))
        raise InputError(f"{path}: no video format {path.suffix!r}; it takes one of {known}.")


def upscale_video(
    up: Upscaler,
    source: Path,
    target: Path,
    keep_metadata: bool = True,
    *,
    overwrite: bool = True,
) -> dict[str, Any]:
    """Upscale a video file; README says what is kept and how.

    Args:
        up: used by one other thread until this returns.
        source: a video of 8 or 10-bit YUV or grey frames.
        target: its suffix chooses the container, and with it the codec: VP9 for .webm, else H.264.
        keep_metadata: carry titles, chapters, places, dates and the like over.
        overwrite: replace a target that is there; otherwise refuse, also if it appears meanwhile.

    Returns:
        JSON-ready facts: width and height of the result in pixels, frames, seconds, and the side
        of the tiles in pixels, None where frames are upscaled whole.

    Raises:
        InputError: the source is damaged, truncated or of a kind that cannot be upscaled, the
            target cannot hold it or is there, or the disk refuses. Nothing is left at the target
            then, or what was there before.
        BackendError: PyAV is not installed, or the backend failed.
    """
    check_video_format(target)
    if target.exists() and source.exists() and target.samefile(source):
        raise InputError(f"{source} would overwrite itself; name another output.")
    try:
        transcode = import_module("hfdn_deploy.video.transcode")
    except ImportError as error:
        raise BackendError(
            f"video needs PyAV ({error}): pip install 'hfdn-deploy[video]'"
        ) from None
    start = time.perf_counter()
    facts: dict[str, Any] = transcode.transcode(up, source, target, keep_metadata, overwrite)
    seconds = round(time.perf_counter() - start, 4)
    return {**facts, "seconds": seconds}
