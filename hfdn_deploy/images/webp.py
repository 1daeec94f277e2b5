"""WebP."""

from typing import Any

from PIL.WebPImagePlugin import WebPImageFile

from hfdn_deploy.images.format import Format


class WebP(Format):
    """WebP, by Pillow; lossless unless a quality is given."""

    name = "WebP"
    suffixes = (".webp",)
    signature = b"RIFF....WEBP"
    pillow = WebPImageFile
    max_side = 16_383
    lossy = True
    animated = True

    @classmethod
    def becomes_colour(cls, channels: int, dtype: str) -> bool:
        """Return True: WebP has no grey."""
        return True

    @classmethod
    def _encoder_options(cls, quality: int | None) -> dict[str, Any]:
        if quality is None:
            return {"lossless": True, "quality": 70, "exact": True}
        return {"quality": quality}
