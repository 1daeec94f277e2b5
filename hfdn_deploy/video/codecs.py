"""The codecs that videos are written in, and which container holds which."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hfdn_deploy.errors import InputError

MUXERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
"""FFmpeg's muxer for each suffix that a video can be written with."""

VIDEO_SUFFIXES = frozenset(
    (
        *MUXERS, ".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".ivf", ".m2ts",
        ".m2v", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogv", ".qt", ".rm", ".rmvb", ".ts",
        ".vob", ".wmv", ".wtv", ".y4m",
    )
)  # fmt: skip
"""Of files that are taken for videos; their content decides what they are."""


@dataclass(frozen=True)
class Codec:
    """A codec and its encoder.

    Little is lost by default, for whoever edits or compresses the result further.
    """

    title: str
    encoder: str
    """FFmpeg's name of it."""
    crf: int
    """The constant rate factor unless another is asked for: the higher, the smaller the file."""
    crfs: range
    """Those that the encoder takes."""
    muxers: frozenset[str]
    """Those that hold the codec."""
    options: Mapping[str, str]
    """Of the encoder; `{threads}` stands for their number."""
    most_threads: int
    even: bool = False
    """Whether a frame's size must be whole samples of chroma."""
    tells_pixel_shape: bool = False
    """Whether the stream itself does, which Matroska's muxer does not without FFmpeg's program."""
    least: int = 1
    """The shortest side of a frame, in pixels."""
    tag: str = ""
    """In MP4 and MOV; empty for FFmpeg's choice."""


# Without B-frames, which make MP4 lose durations where the frame rate varies. The first codec that
# a container holds is its default.
CODECS = {
    "h264": Codec(
        "H.264", "libx264", 17, range(52), frozenset(("mp4", "mov", "matroska")),
        {"preset": "medium", "bf": "0"}, 64, even=True, tells_pixel_shape=True,
    ),
    "hevc": Codec(
        "HEVC", "libx265", 19, range(52), frozenset(("mp4", "mov", "matroska")),
        {"preset": "medium", "bf": "0", "x265-params": "log-level=none:pools={threads}"}, 16,
        even=True, tells_pixel_shape=True,
        least=64,  # x265 4.2 writes beyond its memory below, at 48×48 for example
        tag="hvc1",  # which Apple's players take
    ),
    "vp9": Codec(
        "VP9", "libvpx-vp9", 20, range(64), frozenset(("mp4", "matroska", "webm")),
        {"deadline": "good", "cpu-used": "4", "row-mt": "1"}, 64,
    ),
    "av1": Codec(
        "AV1", "libsvtav1", 22, range(1, 64), frozenset(("mp4", "matroska", "webm")),
        {"preset": "6", "svtav1-params": "lp={threads}"}, 6,
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class VideoOptions:
    """How videos are read and written.

    Raises:
        InputError: there is no such codec, or it takes no such CRF.
    """

    codec: str | None = None
    """A name in `CODECS`; None for VP9 in .webm, else H.264."""
    crf: int | None = None
    """Constant rate factor, from 0 (or 1: AV1), the best, to 51 (H.264, HEVC) or 63; None for what
    loses little: 17 (H.264), 19 (HEVC), 20 (VP9) or 22 (AV1)."""
    deinterlace: bool = True
    """Make frames of the fields of interlaced video, with a warning; otherwise refuse it."""

    def __post_init__(self) -> None:
        if self.codec is not None and self.codec not in CODECS:
            known = ", ".join(CODECS)
            raise InputError(f"there is no video codec {self.codec!r}; choose one of {known}.")
        if self.codec is not None:
            self.crf_for(CODECS[self.codec])

    def crf_for(self, codec: Codec) -> int:
        """Return the CRF to encode with.

        Raises:
            InputError: the codec does not take the one asked for.
        """
        if self.crf is None:
            return codec.crf
        if self.crf not in codec.crfs:
            least, most = codec.crfs[0], codec.crfs[-1]
            raise InputError(
                f"CRF {self.crf} is not for {codec.title}, which takes {least} to {most}."
            )
        return self.crf

    def codec_for(self, target: Path) -> Codec:
        """Return the codec that a file with this suffix is written in.

        Raises:
            InputError: no video is written with the suffix, its container does not hold the codec
                asked for, or the codec does not take the CRF.
        """
        muxer = MUXERS.get(target.suffix.lower())
        if muxer is None:
            known = ", ".join(sorted(MUXERS))
            raise InputError(
                f"{target}: no video format {target.suffix!r}; it takes one of {known}."
            )
        held = {name: codec for name, codec in CODECS.items() if muxer in codec.muxers}
        if self.codec is not None and self.codec not in held:
            raise InputError(
                f"{target}: {target.suffix} does not hold {CODECS[self.codec].title}; choose "
                f".mkv or a codec of {', '.join(held)}."
            )
        codec = held[self.codec or next(iter(held))]
        self.crf_for(codec)
        return codec


DEFAULT = VideoOptions()
