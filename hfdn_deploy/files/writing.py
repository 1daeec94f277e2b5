"""How outputs are written, apart from where."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Writing:
    """What a user chose about the outputs of a run; can be pickled."""

    keep_metadata: bool = True
    """Carry colour profile, EXIF and the like over; of a video titles, chapters and the like."""
    quality: int | None = None
    """1 to 100 for JPEG, AVIF and WebP, see `write_image`; None for each format's default."""


DEFAULTS = Writing()
