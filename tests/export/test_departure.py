"""The departure of a graph, on handmade outputs."""

import numpy as np
import pytest

from export.departure import Sample, departure

SCALE = 2
LR = np.zeros((1, 1, 5, 5), np.float32)


def levels(values):
    """Return a graph that gives these levels of 255 for any input."""
    return lambda lr: np.asarray(values, np.float32)[None, None] / 255


def test_a_difference_is_counted_pixel_by_pixel():
    expected = np.full((10, 10), 100.0)
    output = expected.copy()
    output[0, 0] += 40
    output[0, 1] -= 20
    output[5, 5] += 10
    output[9, 9] += 5
    found = departure("text", [Sample(LR)], levels(output), levels(expected), SCALE)
    assert (found.kind, found.images, found.original_db) == ("text", 1, None)
    assert found.max_levels == pytest.approx(40, abs=1e-4)
    assert found.rms_levels == pytest.approx(np.sqrt((1600 + 400 + 100 + 25) / 100), abs=1e-4)
    assert found.beyond == {"4": 0.04, "8": 0.03, "16": 0.02, "32": 0.01}
    assert found.banding_levels == pytest.approx(60, abs=1e-4)


def test_the_image_that_departs_most_counts():
    outputs = iter([np.full((4, 4), 101.0), np.full((4, 4), 103.0), np.full((4, 4), 100.0)])

    def run(lr):
        return levels(next(outputs))(lr)

    samples = [Sample(LR)] * 3
    found = departure("noise", samples, run, levels(np.full((4, 4), 100.0)), SCALE)
    assert (found.rms_levels, found.max_levels) == pytest.approx((3, 3), abs=1e-4)
    # A uniform difference makes no bands.
    assert found.banding_levels == pytest.approx(0, abs=1e-4)


def test_what_is_clipped_when_written_is_no_difference():
    found = departure("text", [Sample(LR)], levels([[300, -9]]), levels([[256, 0]]), SCALE)
    assert found.max_levels == 0


def test_originals_give_the_quality_of_both():
    original = np.full((30, 30), 100, np.uint8)
    run, reference = levels(np.full((30, 30), 104.0)), levels(np.full((30, 30), 102.0))
    found = departure("text", [Sample(LR, original)], run, reference, SCALE)
    assert found.original_db == pytest.approx((20 * np.log10(255 / 2), 20 * np.log10(255 / 4)))


@pytest.mark.parametrize("output", [np.full((4, 4), np.nan), np.zeros((3, 4))])
def test_a_wrong_output_is_as_far_off_as_can_be(output):
    reference = levels(np.full((4, 4), 50.0))
    found = departure("text", [Sample(LR)], levels(output), reference, SCALE)
    assert (found.rms_levels, found.max_levels) == pytest.approx((255, 255))
    assert set(found.beyond.values()) == {1.0}
