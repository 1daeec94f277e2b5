"""JPEG."""

from typing import Any, BinaryIO

from PIL.JpegImagePlugin import JpegImageFile

from hfdn_deploy.images.format import Format
from hfdn_deploy.images.jpeg_segments import metadata_segments, read_metadata, write_aspect
from hfdn_deploy.images.metadata import Metadata
from hfdn_deploy.images.rows import Banded


class Jpeg(Format):
    """JPEG, by Pillow."""

    name = "JPEG"
    suffixes = (".jpg", ".jpeg", ".jpe", ".jfif")
    signature = rb"\xff\xd8\xff"
    pillow = JpegImageFile
    alpha = False
    max_side = 65_500
    holds = frozenset((
        "icc", "exif", "xmp", "extended_xmp", "photoshop", "comments", "segments", "dpi", "aspect",
    ))  # fmt: skip
    max_block = 65_000
    lossy = True

    def _read_metadata(self, info: dict[Any, Any]) -> tuple[Metadata, int]:
        return read_metadata(self._file, info)

    @classmethod
    def write(
        cls, file: BinaryIO, image: Banded, metadata: Metadata, quality: int | None = None
    ) -> None:
        """Write an image, see `Format`."""
        super().write(file, image, metadata, quality)
        if metadata.aspect and not metadata.dpi:
            write_aspect(file, metadata.aspect)

    @classmethod
    def _metadata_options(cls, metadata: Metadata) -> dict[str, Any]:
        density = {"dpi": metadata.dpi} if metadata.dpi else {}
        # Pillow writes `extra` as it is, behind the JFIF segment.
        return {**density, "extra": metadata_segments(metadata)}

    @classmethod
    def _encoder_options(cls, quality: int | None) -> dict[str, Any]:
        # Without subsampling: colour is half of what one sees.
        return {"quality": quality or 95, "subsampling": 0}
