"""The frames of an animation, one after the other."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from hfdn_deploy.images.rows import Pixels


@dataclass(frozen=True)
class Frames:
    """An animation whose whole frames can be taken once, in order."""

    shape: tuple[int, int, int]
    """(H, W, 3) RGB or (H, W, 4) RGBA of each frame; uint8."""
    milliseconds: tuple[float, ...]
    """How long each frame is shown."""
    plays: int
    """How often the animation plays; 0 is forever."""
    pixels: Iterator[Pixels]

    def durations(self, unit: float = 1) -> list[int]:
        """Return durations in units of `unit` ms, with sums that are right to half a unit."""
        ends = np.cumsum([0, *self.milliseconds]) / unit
        return [int(duration) for duration in np.diff(ends.round())]


class FramesOfPillow(PillowImage.Image):
    """Frames as an image for Pillow's encoders, which take them in order, one at a time."""

    def __init__(self, frames: Frames) -> None:
        """Take the frames that the encoder will ask for."""
        super().__init__()
        height, width, channels = frames.shape
        self._size, self._mode = (width, height), "RGB" if channels == 3 else "RGBA"
        self._pixels = frames.pixels
        self._taken, self._wanted = 0, 1
        self.n_frames = len(frames.milliseconds)
        self.is_animated = True

    def seek(self, frame: int) -> None:
        """Select a frame; a frame before the last one taken cannot be loaded again."""
        if frame >= self.n_frames:
            raise EOFError
        self._wanted = frame + 1

    def tell(self) -> int:
        """Return the number of the selected frame."""
        return self._wanted - 1

    def load(self) -> Any:
        """Take frames up to the selected one."""
        while self._taken < self._wanted:
            self.im = PillowImage.fromarray(next(self._pixels)).im
            self._taken += 1
        return super().load()
