"""Planning an image: its networks, their tiles, and whether the result is resized."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

from hfdn_deploy.errors import InputError
from hfdn_deploy.images import check_shape, size_of
from hfdn_deploy.options import TargetSize
from hfdn_deploy.tiling import WORTH_PREPARING, Plan, bleeding, resizing
from hfdn_deploy.upscaler.network import Networks

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImagePlan:
    """How an image is upscaled; made by `Upscaler.plan`."""

    shape: tuple[int, int]
    """Size of the image, (H, W)."""
    size: tuple[int, int]
    """Size of the result, (h, w)."""
    scales: tuple[int, ...]
    """Scales of the networks that run one after the other: none, one or two."""
    tiles: tuple[Plan, ...]
    """The tiles of each network."""

    def mention(self, target: TargetSize) -> None:
        """Log the plan, unless it is one network of the target's scale."""
        if self.scales != (target.scale,):
            logger.info("%s", self)

    @property
    def made(self) -> tuple[int, int]:
        """Height and width of the networks' result."""
        factor = math.prod(self.scales)
        return factor * self.shape[0], factor * self.shape[1]

    @property
    def resized(self) -> bool:
        """Whether the networks' result is resized."""
        return self.made != self.size

    @property
    def runs_whole(self) -> bool:
        """Whether a single network runs on whole images; it may take several at once."""
        return len(self.tiles) == 1 and self.side is None

    @property
    def side(self) -> int | None:
        """Side of the tiles of the first network that has tiles, in pixels of its input."""
        return next((tiles.side for tiles in self.tiles if tiles.side is not None), None)

    def __str__(self) -> str:
        """Return the plan in one line."""
        steps = [f"×{scale} network" for scale in self.scales]
        if self.resized:
            steps.append(f"resized from {_pixels(self.made)}" if steps else "only resized")
        steps = steps or ["has this size already"]
        return f"{_pixels(self.shape)} → {_pixels(self.size)}: {', then '.join(steps)}"


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[1]}×{size[0]}"


def networks_for(factor: float, scales: Sequence[int]) -> tuple[int, ...]:
    """Choose the networks that enlarge an image by a factor, or by the next larger factor.

    The product of their scales is the smallest that reaches the factor; one network is preferred
    to two, and the larger of two runs first (×8: 0.08 dB better than the smaller first).

    Args:
        factor: ratio of the sides of the result and the image.
        scales: the scales of the available networks.

    Returns:
        No, one or two scales, in the order in which the networks run.

    Raises:
        InputError: two networks do not reach the factor.
    """
    if factor <= 1:
        return ()
    pairs = [pair for pair in product(scales, repeat=2) if pair[0] >= pair[1]]
    ways = [way for way in ((*((scale,) for scale in scales), *pairs)) if math.prod(way) >= factor]
    if not ways:
        raise InputError(
            f"two networks in a row reach at most ×{max(scales) ** 2}, not ×{factor:.4g}",
            "choose a smaller size",
        )
    return min(ways, key=lambda way: (math.prod(way), len(way)))


@dataclass(frozen=True)
class PlanRequest:
    """The arguments of a plan; see `Upscaler.plan`."""

    shape: tuple[int, ...]
    target: TargetSize
    itemsize: int = 0
    """Bytes of a sample of the result if the whole result is kept in memory, else 0."""
    number: int = 1
    largest: int | None = None
    multiples: tuple[int, int] = (1, 1)


def plan_many(
    networks: Networks, asked: PlanRequest, number: int, most: int | None
) -> tuple[ImagePlan, int]:
    """Plan and prepare as described at `Upscaler.plan_many`."""
    alone = plan_image(networks, asked)
    if len(alone.scales) != 1 or not alone.runs_whole or networks[alone.scales[0]].luma.ensemble:
        return alone, 1
    backend = networks[alone.scales[0]].backend
    pays = number * math.prod(alone.shape) > WORTH_PREPARING
    at_once = max(backend.concurrency, backend.streams if pays else 1)
    threads = 1 + at_once  # one of them reads or encodes
    plan, threads = None, min(threads, number, most or threads)
    while threads > 1 and not plan:
        plan = _plan_beside(networks, replace(asked, number=threads))
        threads = threads if plan else (threads + 1) // 2
    if pays:
        backend.prepare(*alone.shape, min(backend.streams, max(1, threads - 1)))
    return plan or alone, threads


def _plan_beside(networks: Networks, asked: PlanRequest) -> ImagePlan | None:
    """Return a plan for several images at once; None unless they run whole."""
    try:
        plan = plan_image(networks, asked)
    except InputError:
        return None
    return plan if plan.runs_whole else None


def plan_image(networks: Networks, asked: PlanRequest) -> ImagePlan:
    """Plan as described at `Upscaler.plan`; opens the networks that it needs."""
    check_shape(asked.shape)
    height, width, channels = size_of(asked.shape)
    wide, high = asked.target.of(width, height, asked.multiples)
    factor = asked.target.scale or max(wide / width, high / height)
    scales = networks_for(factor, networks.scales)
    made = math.prod(scales) * height, math.prod(scales) * width
    beside = asked.number * bleeding(height, width, channels)
    if made != (high, wide):
        beside += resizing(*made, channels)
    tiles = []
    for place, scale in enumerate(scales, start=1):
        network, last = networks[scale], place == len(scales)
        # Between two networks, the whole luma is in memory as floats.
        luma = asked.number * height * width * scale**2 * 4
        held = asked.number * high * wide * channels * asked.itemsize if last else luma
        tiles.append(
            network.planner.plan(
                height,
                width,
                channels if last else 1,
                ensemble=network.luma.ensemble,
                held=held,
                beside=beside,
                number=asked.number,
                largest=asked.largest,
            )
        )
        beside += luma
        height, width = scale * height, scale * width
    return ImagePlan((asked.shape[0], asked.shape[1]), (high, wide), scales, tuple(tiles))
