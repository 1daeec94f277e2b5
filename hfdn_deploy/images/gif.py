"""GIF."""

import io
import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np
from PIL import Image as PillowImage
from PIL.GifImagePlugin import GifImageFile

from hfdn_deploy.images.format import Format, Header
from hfdn_deploy.images.frames import Frames
from hfdn_deploy.images.metadata import Metadata, metadata_of
from hfdn_deploy.images.rows import Banded, Pixels

_TRANSPARENT = 255
"""The palette's entry for pixels that are less than half opaque."""
_KEEP, _CLEAR, _RESTORE = 1, 2, 3
"""Disposals: the treatment of a frame before the next is shown."""
_CHANNELS: dict[int, Any] = {1: 0, 2: [0, 3], 3: slice(3), 4: slice(4)}
"""Index into RGBA, by number of channels."""
_MS = 10
"""Milliseconds in GIF's unit of time."""
_EXTENSION, _IMAGE, _END = b"\x21", b"\x2c", b"\x3b"
_CONTROL, _COMMENT, _APPLICATION = b"\xf9", b"\xfe", b"\xff"
_XMP, _ICC = b"XMP DataXMP", b"ICCRGBG1012"
_LOOPS = (b"NETSCAPE2.0", b"ANIMEXTS1.0")
# XMP is stored without sub-blocks: read as lengths, its bytes lead into this trailer and its end.
_XMP_END = bytes([1, *range(255, -1, -1), 0])


class Gif(Format):
    """GIF, by Pillow; written in 256 colours, chosen per image or frame, with dithering."""

    name = "GIF"
    suffixes = (".gif",)
    signature = b"GIF8[79]a"
    pillow = GifImageFile
    max_side = 65_535
    holds = frozenset(("icc", "xmp", "comments"))
    animated = True

    def _read_header(self) -> Header:
        header = super()._read_header()
        data = self._data()
        width, height = struct.unpack_from("<HH", data, 6)
        if width and height:  # Pillow enlarges the canvas if a frame exceeds it
            header = replace(header, width=width, height=height)
        image: Any = self._pillow
        left, top, right, bottom = image.dispose_extent
        covered = not (left or top) and right >= header.width and bottom >= header.height
        opaque = _opaque_tiles(data, header.width, header.height)
        self._tiled = opaque is not None
        if self._tiled:
            return replace(header, channels=3 if opaque else 4, frames=1, animated=False)
        channels = header.channels + (not covered and header.channels in (1, 3))
        return replace(header, channels=channels)

    def _read_metadata(self, info: dict[Any, Any]) -> tuple[Metadata, int]:
        return _read_metadata(self._data())

    def _data(self) -> bytes:
        self._file.seek(0)
        return self._file.read()

    def _decode(self) -> Pixels:
        pixels, _ = next(self.shown())
        return pixels[..., _CHANNELS[self.header.channels]]

    def shown(self) -> Iterator[tuple[Pixels, dict[Any, Any]]]:
        """Yield the frames on their canvas, transparent where none covers it; see `Format`."""
        frames = self._composed()
        return iter(deque(frames, maxlen=1)) if self._tiled else frames

    def _composed(self) -> Iterator[tuple[Pixels, dict[Any, Any]]]:
        """Yield the canvas after each image.

        Pillow decodes each image alone: its own canvas would be black, and be enlarged.
        """
        data = self._data()
        head = data[: _behind_palette(data)]
        width, height = self.header.width, self.header.height
        canvas = np.zeros((height, width, 4), np.uint8)
        control = b""
        for label, block in _blocks(data):
            if label == _CONTROL:
                control = block
            if label != _IMAGE:
                continue
            left, top, *sides = struct.unpack_from("<4H", block, 1)
            stored = struct.pack("<2H", *map(min, sides, (width, height)))
            still = head[:6] + stored + head[10:] + control + _IMAGE + bytes(4) + block[5:] + _END
            pixels = _frame_pixels(still, max(0, width - left), max(0, height - top))
            area = canvas[top : top + pixels.shape[0], left : left + pixels.shape[1]]
            flags, duration = struct.unpack_from("<BH", control, 3) if control else (0, 0)
            disposal = flags >> 2 & 7
            before = area.copy() if disposal == _RESTORE else 0
            np.copyto(area, pixels, where=pixels[..., 3:] > 0)
            yield canvas.copy(), self._pillow.info | {"duration": duration * _MS}
            if disposal in (_CLEAR, _RESTORE):
                area[:] = before
            control = b""

    @classmethod
    def becomes_colour(cls, channels: int, dtype: str) -> bool:
        """Return True: GIF stores palettes of colours."""
        return True

    @classmethod
    def plays(cls, info: dict[Any, Any]) -> int:
        """Return how often the animation plays; GIF stores the number of repetitions."""
        if "loop" not in info:
            return 1
        return int(info["loop"]) and int(info["loop"]) + 1

    @classmethod
    def write(
        cls, file: BinaryIO, image: Banded, metadata: Metadata, quality: int | None = None
    ) -> None:
        """Write an image; see `Format`."""
        still = _still(image.whole())
        start = _behind_palette(still)
        file.write(b"GIF89a" + still[6:start] + _extensions(metadata) + still[start:])

    @classmethod
    def write_frames(
        cls, file: BinaryIO, frames: Frames, metadata: Metadata, quality: int | None = None
    ) -> None:
        """Write an animation frame by frame, each frame whole and with its own palette."""
        height, width, channels = frames.shape
        file.write(b"GIF89a" + struct.pack("<HH3B", width, height, 0x70, 0, 0))
        if frames.plays != 1:
            again = max(0, min(frames.plays - 1, 65_535))
            file.write(b"\x21\xff\x0bNETSCAPE2.0\x03\x01" + struct.pack("<HB", again, 0))
        file.write(_extensions(metadata))
        transparent = channels == 4
        kind = (_CLEAR if transparent else _KEEP) << 2 | transparent
        for pixels, duration in zip(frames.pixels, frames.durations(_MS), strict=True):
            shown = min(duration, 65_535)
            file.write(struct.pack("<4BH2B", 0x21, 0xF9, 4, kind, shown, _TRANSPARENT, 0))
            file.write(_frame(_still(pixels)))
        file.write(_END)


def _still(pixels: Pixels) -> bytes:
    """Return a GIF of an image, (H, W, 3) or (H, W, 4)."""
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
    """Return the image block of a GIF with the global palette as its own (GIF89a, 18 to 22)."""
    size = still[10] & 0x07
    palette = still[13 : _behind_palette(still)]
    image = next(block for label, block in _blocks(still) if label == _IMAGE)
    return image[:9] + bytes([0x80 | size]) + palette + image[10:]


def _frame_pixels(still: bytes, width: int, height: int) -> Pixels:
    """Return the RGBA of a GIF of one image, cropped to this size."""
    with GifImageFile(io.BytesIO(still), "") as image:
        inside = image.crop((0, 0, min(width, image.width), min(height, image.height)))
        return np.asarray(inside.convert("RGBA"))


def _palette_bytes(flags: int) -> int:
    """Return the length of the palette by the flags of the canvas or of an image."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _behind_palette(data: bytes) -> int:
    """Return the place of the first block."""
    return 13 + _palette_bytes(data[10])


def _blocks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield each extension, by its label, and each image, as they are stored."""
    place = _behind_palette(data)
    while (kind := data[place : place + 1]) not in (b"", _END):
        start = place
        if kind == _EXTENSION:
            label = data[place + 1 : place + 2]
            place += 2
        elif kind == _IMAGE:
            label = kind
            # A descriptor, a palette and the size of the codes.
            place += 11 + _palette_bytes((data[place + 9 : place + 10] or b"\0")[0])
        else:  # stray bytes, for example behind an image
            place += 1
            continue
        while any(length := data[place : place + 1]):
            place += 1 + length[0]
        place += 1
        yield label, data[start:place]


def _opaque_tiles(data: bytes, width: int, height: int) -> bool | None:
    """Return whether the images are opaque tiles that cover the canvas; None if not tiles.

    Images without delay, disposal, repetition and overlap are the tiles of one image of more than
    256 colours. Overlap is judged by the sum of their areas.
    """
    count, area, opaque = 0, 0, True
    for label, block in _blocks(data):
        if label == _APPLICATION and block[3:14] in _LOOPS:
            return None
        if label == _CONTROL:
            flags, duration = struct.unpack_from("<BH", block.ljust(6, b"\0"), 3)
            if duration or flags >> 2 & 7 in (_CLEAR, _RESTORE):
                return None
            opaque = opaque and not flags & 1
        if label == _IMAGE:
            left, top, across, down = struct.unpack_from("<4H", block.ljust(9, b"\0"), 1)
            area += max(0, min(across, width - left)) * max(0, min(down, height - top))
            count += 1
    if count < 2 or area > width * height:
        return None
    return opaque and area == width * height


def _joined(blocks: bytes) -> bytes:
    """Return the data in sub-blocks."""
    parts, place = [], 0
    while any(length := blocks[place : place + 1]):
        parts.append(blocks[place + 1 : place + 1 + length[0]])
        place += 1 + length[0]
    return b"".join(parts)


def _split(data: bytes) -> bytes:
    """Return data as sub-blocks."""
    parts = [data[i : i + 255] for i in range(0, len(data), 255)]
    return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"


def _read_metadata(data: bytes) -> tuple[Metadata, int]:
    """Read metadata from comments and application extensions."""
    comments, found = [], {}
    for label, block in _blocks(data):
        if label == _COMMENT:
            comments.append(_joined(block[2:]))
        elif label == _APPLICATION and block[3:14] in (_XMP, _ICC):
            plain = block.endswith(_XMP_END)
            found[block[3:14]] = block[14 : -len(_XMP_END)] if plain else _joined(block[14:])
    kept = tuple(filter(None, comments))
    return metadata_of(None, found.get(_XMP), icc=found.get(_ICC) or None, comments=kept)


def _extensions(metadata: Metadata) -> bytes:
    """Return the extensions for metadata."""
    start = _EXTENSION + _APPLICATION + b"\x0b"
    parts = [_EXTENSION + _COMMENT + _split(comment) for comment in metadata.comments]
    if metadata.icc:
        parts.append(start + _ICC + _split(metadata.icc))
    if metadata.xmp:
        # A zero byte, as in UTF-16, would end it.
        plain = b"\0" not in metadata.xmp
        parts.append(start + _XMP + (metadata.xmp + _XMP_END if plain else _split(metadata.xmp)))
    return b"".join(parts)
