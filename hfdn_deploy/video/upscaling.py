"""Video files: every frame upscaled, everything else kept. Needs PyAV (extra: video)."""

import time
from collections.abc import Iterable
from contextlib import suppress
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import Any

from hfdn_deploy.errors import BackendError, InputError
from hfdn_deploy.images import IMAGE_SUFFIXES, Image
from hfdn_deploy.tiling import Progress
from hfdn_deploy.upscaler import Upscaler
from hfdn_deploy.video.codecs import DEFAULT, VIDEO_SUFFIXES, VideoOptions

# Signatures of video files: the offset in the file, and the bytes there.
_SIGNATURES = (
    (0, b"\x1aE\xdf\xa3"), (8, b"AVI "), (0, b"0&\xb2u\x8ef\xcf\x11"), (0, b"FLV\x01"),
    (0, b"\0\0\1\xba"), (0, b"OggS"), *((4, b"ftyp" + brand) for brand in (
        b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"mp4", b"avc1", b"M4V ", b"qt  ", b"3gp")),
)  # fmt: skip


def is_video(path: Path) -> bool:
    """Return whether a file is taken for a video, by its suffix or, if unknown, by its content.

    Formats without a signature, such as transport streams, need the suffix.
    """
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES or suffix in IMAGE_SUFFIXES:
        return suffix in VIDEO_SUFFIXES
    head = b""
    with suppress(OSError):
        if path.is_file():  # reading a pipe would block
            with path.open("rb") as file:
                head = file.read(16)
    return any(head.startswith(sign, at) for at, sign in _SIGNATURES)


def check_video_format(path: Path, options: VideoOptions = DEFAULT) -> None:
    """Refuse a path to which a video cannot be written with these options.

    Raises:
        InputError: the suffix is not that of a video that can be written, its container does not
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
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Upscale a video file; docs/how-to/videos.md says what is kept and how.

    Args:
        up: the upscaler, in use by another thread until this returns.
        source: a video in any supported container; the content decides, not the suffix.
        target: the file to write; its suffix chooses the container.
        keep_metadata: keep titles, chapters, places and dates.
        options: codec, CRF and the treatment of interlaced video.
        overwrite: replace an existing target; otherwise refuse it, even if it appears meanwhile.
        progress: called after each frame with the number of finished frames and of all frames, 0
            if unknown.

    Returns:
        JSON-ready facts: width and height of the result in pixels, frames, seconds, and the side
        of the tiles in pixels, None if frames are upscaled whole.

    Raises:
        InputError: the source is damaged, truncated or cannot be upscaled, the target cannot hold
            it or exists, or the disk cannot be written. The target then is as it was before.
        BackendError: PyAV is not installed or lacks the encoder, or the backend failed.
    """
    check_video_format(target, options)
    if target.exists() and source.exists() and target.samefile(source):
        raise InputError(f"{source} would overwrite itself; name another output.")
    start = time.perf_counter()
    facts: dict[str, Any] = _needing_pyav("transcode").transcode(
        up, source, target, keep_metadata, options, overwrite=overwrite, progress=progress
    )
    seconds = round(time.perf_counter() - start, 4)
    return {**facts, "seconds": seconds}


def describe_video_header(path: Path) -> dict[str, Any]:
    """Describe a video's header: a part of `describe_video`, fast and without warnings.

    Raises:
        InputError: the file is missing, without video, or in an unsupported format.
        BackendError: PyAV is not installed.
    """
    facts: dict[str, Any] = _needing_pyav("describing").describe_header(path)
    return facts


def describe_video(path: Path) -> dict[str, Any]:
    """Describe a video file by its header and its first frame.

    Returns:
        JSON-ready facts. "refused" is the reason why it cannot be upscaled, or None; "changes"
        lists the conversions of its frames. The limits of output containers are not included.

    Raises:
        InputError: the file is missing, without video, or in an unsupported format.
        BackendError: PyAV is not installed.
    """
    facts: dict[str, Any] = _needing_pyav("describing").describe(path)
    return facts


def write_frames(
    target: Path,
    frames: Iterable[tuple[Image, Fraction]],
    size: tuple[int, int],
    options: VideoOptions = DEFAULT,
    *,
    overwrite: bool = True,
) -> int:
    """Encode the frames of an animation as a video with sRGB's colour tags.

    Chroma is 4:2:0, except that odd sizes in H.264 and HEVC need 4:4:4, which some players cannot
    show; a warning says so.

    Args:
        target: the file to write; its suffix chooses the container.
        frames: uint8 images of grey (H, W), RGB (H, W, 3) or RGBA (H, W, 4, straight alpha, put on
            white with a warning), each with its duration in seconds, above 0. Times are kept to
            1/90000 s, in .mkv and .webm to 1/1000 s. Frames are consumed one by one.
        size: (height, width) of all frames, in pixels.
        options: codec and CRF.
        overwrite: replace an existing target; otherwise refuse it, even if it appears meanwhile.

    Returns:
        The number of frames written.

    Raises:
        InputError: the container does not hold the codec, there are no frames, the target exists,
            or the disk cannot be written. The target then is as it was before.
        BackendError: PyAV is not installed, or lacks the encoder.
    """
    check_video_format(target, options)
    encode = _needing_pyav("frames").encode_frames
    number: int = encode(target, frames, size, options, overwrite=overwrite)
    return number


def _needing_pyav(module: str) -> Any:
    try:
        return import_module(f"hfdn_deploy.video.{module}")
    except ImportError as error:
        raise BackendError(
            f"video needs PyAV ({error}); install it: pip install 'hfdn-deploy[video]'"
        ) from None
