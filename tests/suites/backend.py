"""A backend that is as fast as can be."""

from typing import Any

import numpy as np

from hfdn_deploy.backends import Backend


class Repeat(Backend):
    """Repeats each pixel: what is checked is the way of the pixels, not the network."""

    name = "repeat"
    scale = 2

    def run(self, lr: Any) -> Any:
        """Return each value four times."""
        return np.repeat(np.repeat(lr, self.scale, axis=2), self.scale, axis=3)

    def close(self) -> None:
        """Nothing to free."""
