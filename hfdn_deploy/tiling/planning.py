"""Choosing whole images or tiles: as requested, or as memory allows."""

import logging
from numbers import Real

import numpy as np

from hfdn_deploy.backends import Backend
from hfdn_deploy.errors import BackendError, InputError
from hfdn_deploy.machine import free_memory
from hfdn_deploy.options import Tile
from hfdn_deploy.tiling.memory import WHOLE, Footprint, Plan
from hfdn_deploy.tiling.tiles import STEP

logger = logging.getLogger(__name__)


class Planner:
    """Decides once per image whether it runs whole or in which tiles."""

    def __init__(self, backend: Backend, tile: Tile, max_memory: int | None) -> None:
        """Check and keep the options, which are explained in `ModelOptions`.

        Raises:
            InputError: the tile size or the amount of memory is not valid.
            BackendError: the backend does not support tiles or a memory limit.
        """
        if isinstance(tile, np.integer):
            tile = int(tile)
        if isinstance(tile, bool) or not (
            tile in ("auto", None) or (isinstance(tile, int) and tile > 0)
        ):
            raise InputError(f"tile is {tile!r}; give its side in pixels, 'auto' or None.")
        if max_memory is not None and not (isinstance(max_memory, Real) and max_memory > 0):
            raise InputError(f"max_memory is {max_memory!r}; give bytes, or None.")
        self._tiling = backend.tiling
        if isinstance(tile, int) and not self._tiling:
            raise BackendError(f"{backend.name} has no tiles; leave tile at 'auto' or None.")
        most = self._largest_side()
        if isinstance(tile, int) and most is not None and tile > most:
            raise InputError(
                f"{backend.name} runs tiles of at most {most} pixels, not {tile}; give a smaller "
                "side, or 'auto'."
            )
        if max_memory is not None and not (self._tiling and self._tiling.memory):
            raise BackendError(
                f"the memory use of {backend.name} has not been measured; leave max_memory out, or "
                "give the side of a tile."
            )
        if isinstance(tile, int) and self._tiling and tile < STEP:
            halo = self._tiling.halo
            logger.warning(
                "tiles of %d with a halo of %d compute about %.0f times the pixels of an image; "
                "use tiles of %d or more, which compute at most %.0f times as many.",
                tile, halo, (1 + 2 * halo / tile) ** 2, STEP, (1 + 2 * halo / STEP) ** 2,
            )  # fmt: skip
        self._tile = tile
        # Read once: later, memory that the backend keeps for reuse would not count as free.
        free = free_memory()
        self._budget = free // 2 if max_memory is None else max_memory
        # An explicit tile size may use all free memory.
        self._limit = free if max_memory is None else max_memory

    def plan(
        self,
        height: int,
        width: int,
        channels: int,
        *,
        ensemble: bool,
        held: int,
        beside: int,
        number: int,
        largest: int | None,
    ) -> Plan:
        """Plan the upscaling of images of one size.

        Args:
            height, width: in low-resolution pixels.
            channels: of each image, 1 to 4.
            ensemble: whether each image is upscaled eight times.
            held: bytes of the results that stay in memory.
            beside: bytes that other steps use at the same time.
            number: how many images run at once.
            largest: limit of a tile's side, ignored with an explicit tile size; None for any.

        Raises:
            InputError: the images would not fit into memory.
        """
        tiling, tile = self._tiling, self._tile
        if not tiling:
            return WHOLE
        if not tiling.memory:
            if tile != "auto":
                return Plan(tile)
            sides = [side for side in (self._largest_side(), largest) if side is not None]
            fits = not sides or max(height, width) <= min(sides) + 2 * tiling.halo
            return WHOLE if fits else Plan(min(sides))
        footprint = Footprint(height, width, tiling, channels, ensemble, number, held, beside)
        if tile == "auto":
            return footprint.fastest(self._budget, largest)
        if tile and tiling.split:
            keeping = Plan(tile, keeps=True)
            if footprint.need(keeping) <= self._budget:
                return keeping
        footprint.check(Plan(tile), self._limit)
        return Plan(tile)

    def _largest_side(self) -> int | None:
        """Return the limit of a tile's side without its halo; None if there is no limit."""
        tiling = self._tiling
        if not tiling or tiling.largest is None:
            return None
        return tiling.largest - 2 * tiling.halo
