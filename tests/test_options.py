import pickle

import numpy as np
import pytest

from hfdn_deploy.errors import InputError
from hfdn_deploy.options import TargetSize, model_and_scale, target_of


@pytest.mark.parametrize(
    ("target", "image", "result"),
    [
        (TargetSize(scale=4), (7, 5), (28, 20)),
        (TargetSize(scale=4.0), (7, 5), (28, 20)),
        (TargetSize(scale=3.5), (10, 7), (35, 24)),
        (TargetSize(scale=1.01), (1, 1), (1, 1)),
        (TargetSize(width=1920), (640, 360), (1920, 1080)),
        (TargetSize(width=1920), (854, 480), (1920, 1079)),
        (TargetSize(height=1080), (360, 640), (608, 1080)),
        (TargetSize(width=2), (900, 3), (2, 1)),
        # Both sides: the largest size that fits inside, or exactly that size if within 1 %.
        (TargetSize(width=1920, height=1080), (640, 360), (1920, 1080)),
        (TargetSize(width=1920, height=1080), (854, 480), (1920, 1080)),
        (TargetSize(width=1920, height=1080), (1920, 1088), (1920, 1080)),
        (TargetSize(width=1920, height=1080), (400, 300), (1440, 1080)),
        (TargetSize(width=1920, height=1080), (300, 400), (810, 1080)),
        (TargetSize(width=1920, height=1080), (1000, 400), (1920, 768)),
        (TargetSize(width=1000, height=1000), (1000, 989), (1000, 989)),
        (TargetSize(width=1000, height=1000), (1000, 991), (1000, 1000)),
        (TargetSize(width=30, height=30), (4000, 3000), (30, 22)),
    ],
)
def test_what_a_result_measures(target, image, result):
    assert target.of(*image) == result
    assert pickle.loads(pickle.dumps(target)) == target


@pytest.mark.parametrize(
    ("target", "image", "result"),
    [
        (TargetSize(width=1920), (854, 480), (1920, 1080)),
        (TargetSize(height=1080), (1080, 1920), (608, 1080)),
        (TargetSize(scale=1.5), (322, 242), (484, 364)),
        # Given sides and integer scales are exact.
        (TargetSize(width=1921), (640, 360), (1921, 1080)),
        (TargetSize(scale=3), (21, 11), (63, 33)),
    ],
)
def test_sides_that_follow_are_multiples(target, image, result):
    assert target.of(*image, (2, 2)) == result


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, "either a scale or pixels"),
        ({"scale": 2, "width": 5}, "either a scale or pixels"),
        ({"scale": 1}, "a scale of 1 does not upscale; give one above 1"),
        ({"scale": 0.5}, "a scale of 0.5 does not upscale"),
        ({"scale": float("nan")}, "a scale of nan does not upscale"),
        ({"scale": float("inf")}, "a scale of inf does not upscale"),
        ({"scale": "4"}, "a scale of '4' does not upscale"),
        ({"width": 0}, "a side cannot be 0 pixels; give a whole number above 0"),
        ({"height": -3}, "a side cannot be -3 pixels"),
        ({"width": 2.5}, "a side cannot be 2.5 pixels"),
        ({"width": 5, "height": "6"}, "a side cannot be '6' pixels"),
    ],
)
def test_what_is_no_size(asked, words):
    with pytest.raises(InputError, match=words):
        TargetSize(**asked)


def test_arguments_become_targets():
    assert target_of(None, None) is None
    assert target_of((5, None), None) == TargetSize(width=5)
    assert target_of(None, 3.5) == TargetSize(scale=3.5)
    for size in (320, "320x200", (1, 2, 3)):
        with pytest.raises(InputError, match="give width and height, one of which may be None"):
            target_of(size, None)
    assert TargetSize(width=5, height=6).turned() == TargetSize(width=6, height=5)
    assert [str(TargetSize(scale=3.5)), str(TargetSize(width=5))] == ["×3.5", "5×any height"]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (4, (4, None)),
        (np.int64(2), (2, None)),
        (4.0, (4, None)),
        (3.5, (None, 3.5)),
        (8, (None, 8)),
        ("x4", ("x4", None)),
        (None, (None, None)),
    ],
)
def test_numbers_that_no_network_has_are_targets(model, expected):
    assert model_and_scale(model) == expected
