"""How outputs are written, apart from where."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hfdn_deploy.images import FORMATS, Metadata
from hfdn_deploy.video import VideoOptions, is_video


@dataclass(frozen=True, kw_only=True)
class Writing:
    """What a user chose about the outputs of a run; can be pickled."""

    keep_metadata: bool = True
    """Carry colour profile, EXIF and the like over; of a video titles, chapters and the like."""
    quality: int | None = None
    """1 to 100 for JPEG, AVIF and WebP, see `write_image`; None for each format's default."""
    video: VideoOptions = field(default_factory=VideoOptions)
    """Codec and CRF of videos, and what becomes of interlaced ones."""

    def kept(self, metadata: Metadata) -> Metadata:
        """What an output carries over of its input's metadata: all, or what colours mean."""
        return metadata if self.keep_metadata else metadata.colour

    def facts(self, target: Path) -> dict[str, Any]:
        """The choices that this output depends on."""
        facts = asdict(self)
        kind = FORMATS.get(target.suffix.lower())
        if kind is None or not kind.lossy:
            del facts["quality"]
        video = facts.pop("video")
        if is_video(target):
            facts |= video
        return facts


DEFAULTS = Writing()
