"""Progress bars, for commands that run; tqdm takes a while to import."""

from tqdm import tqdm


class PixelBar(tqdm):  # type: ignore[misc]
    """A bar of an image's pixels, which appears with the first tile."""

    total: int | None

    def __init__(self) -> None:
        super().__init__(unit="px", unit_scale=True, disable=None, leave=False, delay=0.1)

    def show(self, done: int, total: int) -> None:
        """Move to `done`; a smaller one than before is the next image's."""
        if done < self.n or total != self.total:
            self.reset()
        self.total = total
        self.update(done - self.n)
