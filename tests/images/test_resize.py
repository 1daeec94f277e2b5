import numpy as np
import pytest

from hfdn_deploy.images import imresize

# MATLAB's antialiased bicubic at 1/2 and its two phases at 2: Keys' kernel at a = -0.5.
HALF = [-3, -9, 29, 111, 111, 29, -9, -3]
DOUBLE = [-18, 222, 58, -6]


def test_halving_has_matlabs_weights():
    for position in range(8):
        impulse = np.zeros((1, 24))
        impulse[0, 8 + position] = 1
        # Output 5 lies between inputs 10 and 11; its window is inputs 7 to 14.
        value = imresize(impulse, 0.5)[0, 5]
        expected = HALF[position + 1] / 256 if position < 7 else 0
        assert value == pytest.approx(expected, abs=1e-15)


def test_doubling_has_matlabs_weights():
    impulse = np.zeros((9, 9))
    impulse[4, 4] = 1
    column = imresize(impulse, 2)[:, 8] / (DOUBLE[1] / 256)
    weights = np.array([-6, -18, 58, 222, 222, 58, -18, -6]) / 256
    np.testing.assert_allclose(column[5:13], weights, atol=1e-15)
    assert not column[:5].any() and not column[13:].any()


def test_edges_mirror():
    row = np.array([[10.0, 20, 40, 80]])
    mirrored = np.array([[40.0, 20, 10, 10, 20, 40, 80, 80, 40, 20]])
    np.testing.assert_allclose(imresize(row, 2), imresize(mirrored, 2)[:, 6:14])


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_agrees_with_an_independent_implementation_inside(factor):
    torch = pytest.importorskip("torch", exc_type=ModuleNotFoundError)
    image = np.random.default_rng(0).random((60, 72))
    tensor = torch.from_numpy(image)[None, None]
    other = torch.nn.functional.interpolate(
        tensor, scale_factor=1 / factor, mode="bicubic", antialias=True
    )
    difference = np.abs(imresize(image, 1 / factor) - other[0, 0].numpy())
    assert difference[3:-3, 3:-3].max() < 1e-12


def test_shapes_and_dtypes():
    assert imresize(np.zeros((7, 10, 3), np.uint8), 1 / 3).shape == (3, 4, 3)
    assert imresize(np.zeros((1, 1)), 4).shape == (4, 4)
    image = np.full((5, 6, 2), 200, np.uint8)
    np.testing.assert_allclose(imresize(image, 0.5), 200)
