"""Reading and writing of animations, frame by frame."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np

from hfdn_deploy.atomic import replaced
from hfdn_deploy.errors import InputError
from hfdn_deploy.images.fitting import fitting
from hfdn_deploy.images.format import Format, turn_upright
from hfdn_deploy.images.frames import Frames
from hfdn_deploy.images.metadata import Metadata, for_size
from hfdn_deploy.images.reading import ImageReader, naming
from hfdn_deploy.images.registry import FORMATS
from hfdn_deploy.images.rows import Banded, Pixels
from hfdn_deploy.images.writing import check_fits, refusing

_OPAQUE = 255


class Animation:
    """An animation in a file.

    All frames are decoded once when it is opened, to find damage and durations.

    Example:
        with Animation(path) as animation:
            frames = animation.frames()
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open the file.

        Raises:
            InputError: as for `read_image`, or a frame is damaged.
        """
        self._reader = ImageReader(path)
        self.header = self._reader.header
        self._kind: type[Format] = type(self._reader.opened())
        with naming(self._reader.name):
            try:
                self._reader.check_memory()
                self._scan()
            except BaseException:
                self.close()
                raise

    def _scan(self) -> None:
        milliseconds, opaque, plays = [], True, 1
        for pixels, info in self._decoded():
            milliseconds.append(max(0.0, float(info.get("duration", 0))))
            opaque = opaque and bool(np.all(pixels[..., 3] == _OPAQUE))
            plays = self._kind.plays(info)
        self.milliseconds = tuple(milliseconds)
        self.plays = plays
        self.shape = (self.header.height, self.header.width, 3 if opaque else 4)

    def _decoded(self) -> Iterator[tuple[Pixels, dict[Any, Any]]]:
        """Yield the frames as displayed, RGBA and upright, and Pillow's `info` of each."""
        for pixels, info in self._reader.opened().shown():
            yield turn_upright(pixels, self.header.orientation), info

    def frames(self) -> Frames:
        """Return all frames, from the first; each is decoded when it is taken.

        Raises:
            InputError: when a frame is taken, if the file was changed and is now damaged.
        """
        return Frames(self.shape, self.milliseconds, self.plays, self._pixels())

    def _pixels(self) -> Iterator[Pixels]:
        with naming(self._reader.name):
            for pixels, _ in self._decoded():
                yield np.ascontiguousarray(pixels[..., : self.shape[2]])

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def holds_animation(path: Path) -> bool:
    """Return whether `write_animation` writes the format that the suffix names."""
    kind = FORMATS.get(path.suffix.lower())
    return kind is not None and kind.animated


def write_animation(
    path: Path,
    frames: Frames,
    metadata: Metadata | None = None,
    quality: int | None = None,
    *,
    overwrite: bool = True,
) -> None:
    """Write an animation as GIF, WebP or PNG.

    GIF and PNG are written frame by frame; WebP's encoder holds its compressed frames in memory.

    Args:
        path: the file; missing folders are created.
        frames: taken one after the other; their errors are propagated.
        metadata: of the source animation.
        quality: 1 to 100 for WebP, which is lossless by default.
        overwrite: replace an existing file; if False, refuse, even if it appears meanwhile.

    Raises:
        InputError: the format is unknown or cannot hold animations or this size; the disk reports
            an error; or the file exists and must not be replaced.
    """
    height, width, channels = frames.shape
    check_fits(path, width, height, channels, "uint8")
    if not holds_animation(path):
        raise InputError(
            f"{path}: {path.suffix} cannot hold an animation; choose .webp, .gif or .png."
        )
    kind = FORMATS[path.suffix.lower()]
    still = Banded(frames.shape, np.dtype(np.uint8), iter(()))
    metadata = fitting(path, kind, still, for_size(metadata or Metadata(), width, height))
    with (
        replaced(path, overwrite=overwrite) as temporary,
        temporary.open("wb") as file,
        refusing(path, width, height),
    ):
        kind.write_frames(file, frames, metadata, quality)
