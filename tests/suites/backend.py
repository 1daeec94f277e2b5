"""A trivial, fast backend."""

from typing import Any

import numpy as np

from hfdn_deploy.backends import Backend


class Repeat(Backend):
    """A backend that repeats each pixel, to check how pixels are handled around the network."""

    name = "repeat"
    scale = 2

    def run(self, lr: Any) -> Any:
        """Return each value four times."""
        return np.repeat(np.repeat(lr, self.scale, axis=2), self.scale, axis=3)

    def close(self) -> None:
        """Do nothing; there is nothing to free."""
