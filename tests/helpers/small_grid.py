"""Reduced sets of images for judging and calibrating graphs."""

import pytest

from export import calibration, image, kinds, parity, ranges, sensitivity
from export.sessions import Array


def leave(patch: pytest.MonkeyPatch, number: int, whole: tuple[str, ...] = ()) -> None:
    """Judge graphs on so many images of each kind, and on all of the kinds in `whole`."""
    everything = kinds.judged_images
    kept = {kind: everything()[kind] for kind in whole}

    def few() -> dict[str, list[Array]]:
        return {kind: images[:number] for kind, images in everything().items()} | kept

    for module in (parity, sensitivity):
        patch.setattr(module, "judged_images", few)


def make_small(patch: pytest.MonkeyPatch) -> None:
    """Use few images with a quarter of the pixels, for tests that do not depend on quality."""
    leave(patch, 2)
    patch.setattr(parity, "SIZE", (24, 32))
    patch.setattr(image, "_CROP", (24, 32))
    patch.setattr(kinds, "SIDE", 32)
    patch.setattr(calibration, "SEEDS", calibration.SEEDS[:1])
    patch.setattr(ranges, "STEPS", 75)
    patch.setattr(ranges, "RATE", 0.12)
    # Ranges from so few images fail gates that further layers would not mend.
    patch.setattr(sensitivity, "LEAST", 1)
