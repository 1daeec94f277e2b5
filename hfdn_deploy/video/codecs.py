"""The codecs that videos are written in, and the containers that hold each."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hfdn_deploy.errors import InputError

MUXERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
"""FFmpeg's muxer for each suffix of a video that can be written."""

VIDEO_SUFFIXES = frozenset(
    (
        *MUXERS, ".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".ivf", ".m2ts",
        ".m2v", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogv", ".qt", ".rm", ".rmvb", ".ts",
        ".vob", ".wmv", ".wtv", ".y4m",
    )
)  # fmt: skip
"""Suffixes of files that are taken for videos; the content decides the actual format."""


@dataclass(frozen=True)
class Codec:
    """A codec and its encoder.

    The default quality is high, because results may be edited or compressed further.
    """

    title: str
    encoder: str
    """FFmpeg's name of the encoder."""
    crf: int
    """The default constant rate factor: the higher, the smaller the file."""
    crfs: range
    """The constant rate factors that the encoder takes."""
    muxers: frozenset[str]
    """FFmpeg's muxers of the containers that hold the codec."""
    options: Mapping[str, str]
    """Options of the encoder; `{threads}` stands for the number of threads."""
    most_threads: int
    even: bool = False
    """Whether a frame's sides must be multiples of the chroma subsampling."""
    tells_pixel_shape: bool = False
    """Whether the stream stores the pixel shape; through PyAV, Matroska's muxer does not."""
    least: int = 1
    """The smallest side of a frame, in pixels."""
    tag: str = ""
    """The codec tag in MP4 and MOV; empty for FFmpeg's choice."""


# No B-frames: with them, MP4 loses durations where the frame rate varies. The first codec that a
# container holds is its default.
CODECS = {
    "h264": Codec(
        "H.264", "libx264", 17, range(52), frozenset(("mp4", "mov", "matroska")),
        {"preset": "medium", "bf": "0"}, 64, even=True, tells_pixel_shape=True,
    ),
    "hevc": Codec(
        "HEVC", "libx265", 19, range(52), frozenset(("mp4", "mov", "matroska")),
        {"preset": "medium", "bf": "0", "x265-params": "log-level=none:pools={threads}"}, 16,
        even=True, tells_pixel_shape=True,
        least=64,  # x265 4.2 writes outside its buffers at smaller sizes, such as 48×48
        tag="hvc1",  # required by Apple's players
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
        InputError: the codec is unknown, or does not take the CRF.
    """

    codec: str | None = None
    """A name in `CODECS`; None for VP9 in .webm, else H.264."""
    crf: int | None = None
    """Constant rate factor, from 0 (AV1: 1), the best, to 51 (H.264, HEVC) or 63; None for the
    codec's default: 17 (H.264), 19 (HEVC), 20 (VP9) or 22 (AV1)."""
    deinterlace: bool = True
    """Deinterlace interlaced video, with a warning; otherwise refuse it."""

    def __post_init__(self) -> None:
        if self.codec is not None and self.codec not in CODECS:
            known = ", ".join(CODECS)
            raise InputError(f"video codec {self.codec!r} is unknown; choose one of {known}.")
        if self.codec is not None:
            self.crf_for(CODECS[self.codec])

    def crf_for(self, codec: Codec) -> int:
        """Return the CRF to encode with.

        Raises:
            InputError: the codec does not take the requested CRF.
        """
        if self.crf is None:
            return codec.crf
        if self.crf not in codec.crfs:
            least, most = codec.crfs[0], codec.crfs[-1]
            raise InputError(
                f"CRF {self.crf} is out of range for {codec.title}; choose {least} to {most}."
            )
        return self.crf

    def codec_for(self, target: Path) -> Codec:
        """Return the codec to write a file with this suffix in.

        Raises:
            InputError: the suffix is not that of a video that can be written, its container does
                not hold the requested codec, or the codec does not take the CRF.
        """
        muxer = MUXERS.get(target.suffix.lower())
        if muxer is None:
            known = ", ".join(sorted(MUXERS))
            raise InputError(
                f"{target}: video cannot be written as {target.suffix!r}; choose one of {known}."
            )
        held = {name: codec for name, codec in CODECS.items() if muxer in codec.muxers}
        if self.codec is not None and self.codec not in held:
            raise InputError(
                f"{target}: {target.suffix} cannot hold {CODECS[self.codec].title}; choose "
                f".mkv, or one of the codecs {', '.join(held)}."
            )
        codec = held[self.codec or next(iter(held))]
        self.crf_for(codec)
        return codec


DEFAULT = VideoOptions()
