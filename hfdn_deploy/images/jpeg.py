"""JPEG."""

from typing import Any

from PIL.JpegImagePlugin import JpegImageFile

from hfdn_deploy.images.format import Format


class Jpeg(Format):
    """JPEG, by Pillow."""

    name = "JPEG"
    suffixes = (".jpg", ".jpeg", ".jpe", ".jfif")
    signature = rb"\xff\xd8\xff"
    pillow = JpegImageFile
    alpha = False
    max_side = 65_500
    max_block = 65_000
    lossy = True

    @classmethod
    def _encoder_options(cls, quality: int | None) -> dict[str, Any]:
        # Without subsampling: colour is half of what one sees.
        return {"quality": quality or 95, "subsampling": 0}
