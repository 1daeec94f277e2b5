"""GIF."""

import io
import struct
from typing import Any, BinaryIO

import numpy as np
from PIL import Image as PillowImage
from PIL.GifImagePlugin import GifImageFile

from hfdn_deploy.images.format import Format
from hfdn_deploy.images.frames import Frames
from hfdn_deploy.images.metadata import Metadata
from hfdn_deploy.images.rows import Banded, Pixels

_TRANSPARENT = 255
"""The palette's entry for pixels that are less than half opaque."""
_KEEP, _CLEAR = 1, 2
"""What becomes of a frame when the next is shown."""
_MS = 10
"""Milliseconds in a unit of time."""
_EXTENSION, _IMAGE = b"\x21", b"\x2c"


class Gif(Format):
    """GIF, by Pillow: written in 256 colours, chosen for each image or frame, with dithering."""

    name = "GIF"
    suffixes = (".gif",)
    signature = b"GIF8[79]a"
    pillow = GifImageFile
    max_side = 65_535
    holds = frozenset(())
    animated = True

    @classmethod
    def becomes_colour(cls, channels: int, dtype: str) -> bool:
        """GIF has palettes alone."""
        return True

    @classmethod
    def plays(cls, info: dict[Any, Any]) -> int:
        """The file says how often it is shown again after the first time."""
        if "loop" not in info:
            return 1
        return int(info["loop"]) and int(info["loop"]) + 1

    @classmethod
    def write(
        cls, file: BinaryIO, image: Banded, metadata: Metadata, quality: int | None = None
    ) -> None:
        """Write an image, see `Format`."""
        file.write(_still(image.whole()))

    @classmethod
    def write_frames(
        cls, file: BinaryIO, frames: Frames, metadata: Metadata, quality: int | None = None
    ) -> None:
        """Write frames as they come, each of them whole and with a palette of its own."""
        height, width, channels = frames.shape
        file.write(b"GIF89a" + struct.pack("<HH3B", width, height, 0x70, 0, 0))
        if frames.plays != 1:
            again = max(0, min(frames.plays - 1, 65_535))
            file.write(b"\x21\xff\x0bNETSCAPE2.0\x03\x01" + struct.pack("<HB", again, 0))
        transparent = channels == 4
        kind = (_CLEAR if transparent else _KEEP) << 2 | transparent
        for pixels, duration in zip(frames.pixels, frames.durations(_MS), strict=True):
            shown = min(duration, 65_535)
            file.write(struct.pack("<4BH2B", 0x21, 0xF9, 4, kind, shown, _TRANSPARENT, 0))
            file.write(_frame(_still(pixels)))
        file.write(b"\x3b")


def _still(pixels: Pixels) -> bytes:
    """A GIF of an image, (H, W, 3) or (H, W, 4)."""
    transparent = pixels.shape[2] == 4
    image = PillowImage.fromarray(np.ascontiguousarray(pixels[..., :3]))
    palette = image.quantize(_TRANSPARENT if transparent else 256)
    indexed = image.quantize(palette=palette, dither=PillowImage.Dither.FLOYDSTEINBERG)
    options = {}
    if transparent:
        indices = np.where(pixels[..., 3] < 128, _TRANSPARENT, np.asarray(indexed))
        colours = (indexed.getpalette() or [])[: 3 * _TRANSPARENT]
        indexed = PillowImage.fromarray(indices.astype(np.uint8), "P")
        indexed.putpalette(colours + [0] * (3 * 256 - len(colours)))
        options = {"transparency": _TRANSPARENT}
    file = io.BytesIO()
    indexed.save(file, "GIF", optimize=False, interlace=False, **options)
    return file.getvalue()


def _frame(still: bytes) -> bytes:
    """The image in a GIF, with the palette of all as its own (GIF89a, 18 to 22)."""
    size = still[10] & 0x07
    place = 13 + 3 * 2 ** (size + 1)
    palette = still[13:place]
    while still[place : place + 1] == _EXTENSION:
        place += 2
        while length := still[place]:
            place += 1 + length
        place += 1
    descriptor = still[place : place + 9] + bytes([0x80 | size])
    return descriptor + palette + still[place + 10 : -1]
