"""How outputs are written."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hfdn_deploy.images import FORMATS, Metadata
from hfdn_deploy.video import VideoOptions, is_video


@dataclass(frozen=True, kw_only=True)
class Writing:
    """The user's options for the outputs of a run; can be pickled."""

    keep_metadata: bool = True
    """Keep metadata such as colour profile and EXIF; titles and chapters of a video."""
    quality: int | None = None
    """1 to 100 for JPEG, AVIF and WebP, see `write_image`; None for each format's default."""
    video: VideoOptions = field(default_factory=VideoOptions)
    """Codec and CRF of videos, and whether to deinterlace."""

    def kept(self, metadata: Metadata) -> Metadata:
        """Return the metadata that an output keeps: all, or only what defines its colours."""
        return metadata if self.keep_metadata else metadata.colour

    def facts(self, target: Path) -> dict[str, Any]:
        """Return the options that this output depends on."""
        facts = asdict(self)
        kind = FORMATS.get(target.suffix.lower())
        if kind is None or not kind.lossy:
            del facts["quality"]
        video = facts.pop("video")
        if is_video(target):
            facts |= video
        return facts


DEFAULTS = Writing()
