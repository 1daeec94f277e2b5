import numpy as np
import pytest

from export import kinds


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_images_of_a_kind(kind):
    make = kinds.KINDS[kind]
    images, again, others = (make(np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert len(images) == len(others) >= 6
    for image in images:
        assert (image.shape, image.dtype) == ((kinds.SIDE, kinds.SIDE), np.uint8)
    assert len({image.tobytes() for image in images}) == len(images)
    np.testing.assert_array_equal(images, again)
    # Kinds made of photographs and ramps alone do not depend on the seed.
    drawn = kind not in ("photographs", "dithering")
    assert drawn == any((a != b).any() for a, b in zip(images, others, strict=True))


def test_kinds_are_what_they_are_called():
    made = {kind: make(np.random.default_rng(0)) for kind, make in kinds.KINDS.items()}
    assert len(made["photographs"]) >= 20
    assert max(image.max() for image in made["dark images"]) < 50
    steps = [np.abs(np.diff(x.astype(int), axis=1)).max() for x in made["gradients"]]
    assert max(steps) <= 40
    assert all(len(np.unique(x)) == 2 for x in made["dithering"][:-1])
    assert all(len(np.unique(x)) == 2 for x in made["text without antialiasing"])
    assert all(len(np.unique(x)) <= 4 for x in made["pixel art"])
    assert min(x.std() for x in made["noise"]) > 5


def test_judged_images_are_what_a_graph_reads():
    for images in kinds.judged_images().values():
        for lr in images:
            assert (lr.shape, lr.dtype) == ((1, 1, kinds.SIDE, kinds.SIDE), np.float32)
            assert 0 <= lr.min() <= lr.max() <= 1


@pytest.mark.parametrize(
    ("place", "corner"), [((0, 0), (0, 0)), ((50, 60), (18, 28)), ((99, 119), (36, 56))]
)
def test_a_crop_stays_inside(place, corner):
    image = np.arange(100 * 120).reshape(100, 120)
    assert kinds.crop(image, *place, 64)[0, 0] == image[corner]
    assert kinds.crop(image, *place, 64).shape == (64, 64)
    assert kinds.crop(image, *place, 110).shape == (100, 110)
