"""Video files: every frame upscaled, everything else kept. Needs PyAV (extra: video)."""

import time
from importlib import import_module
from pathlib import Path
from typing import Any

from hfdn_deploy.errors import BackendError, InputError
from hfdn_deploy.upscaler import Upscaler
from hfdn_deploy.video.codecs import DEFAULT, MUXERS, VideoOptions


def is_video(path: Path) -> bool:
    """Whether the suffix names a video format."""
    return path.suffix.lower() in MUXERS


def check_video_format(path: Path, options: VideoOptions = DEFAULT) -> None:
    """Refuse a path that no video can be written to with these options.

    Raises:
        InputError: the suffix names no video format that can be written, its container does not
            hold the codec, or the codec does not take the CRF.
    """
    options.codec_for(path)


def upscale_video(
    up: Upscaler,
    source: Path,
    target: Path,
    keep_metadata: bool = True,
    options: VideoOptions = DEFAULT,
    *,
    overwrite: bool = True,
) -> dict[str, Any]:
    """Upscale a video file; README says what is kept and how.

    Args:
        up: used by one other thread until this returns.
        source: a video of 8 or 10-bit YUV or grey frames.
        target: its suffix chooses the container.
        keep_metadata: carry titles, chapters, places, dates and the like over.
        options: codec, CRF and what becomes of interlaced video.
        overwrite: replace a target that is there; otherwise refuse, also if it appears meanwhile.

    Returns:
        JSON-ready facts: width and height of the result in pixels, frames, seconds, and the side
        of the tiles in pixels, None where frames are upscaled whole.

    Raises:
        InputError: the source is damaged, truncated or of a kind that cannot be upscaled, the
            target cannot hold it or is there, or the disk refuses. Nothing is left at the target
            then, or what was there before.
        BackendError: PyAV is not installed or lacks the encoder, or the backend failed.
    """
    check_video_format(target, options)
    if target.exists() and source.exists() and target.samefile(source):
        raise InputError(f"{source} would overwrite itself; name another output.")
    start = time.perf_counter()
    facts: dict[str, Any] = _needing_pyav("transcode").transcode(
        up, source, target, keep_metadata, options, overwrite=overwrite
    )
    seconds = round(time.perf_counter() - start, 4)
    return {**facts, "seconds": seconds}


def _needing_pyav(module: str) -> Any:
    try:
        return import_module(f"hfdn_deploy.video.{module}")
    except ImportError as error:
        raise BackendError(
            f"video needs PyAV ({error}): pip install 'hfdn-deploy[video]'"
        ) from None
