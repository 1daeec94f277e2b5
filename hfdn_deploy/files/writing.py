"""How outputs are written, apart from where."""

from dataclasses import dataclass, field

from hfdn_deploy.video import VideoOptions


@dataclass(frozen=True, kw_only=True)
class Writing:
    """What a user chose about the outputs of a run; can be pickled."""

    keep_metadata: bool = True
    """Carry colour profile, EXIF and the like over; of a video titles, chapters and the like."""
    quality: int | None = None
    """1 to 100 for JPEG, AVIF and WebP, see `write_image`; None for each format's default."""
    video: VideoOptions = field(default_factory=VideoOptions)
    """Codec and CRF of videos, and what becomes of interlaced ones."""


DEFAULTS = Writing()
