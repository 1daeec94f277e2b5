import numpy as np

from hfdn_deploy.bench import load_original, photographs


def test_the_photograph_that_is_shipped_has_the_pixels_of_its_source():
    np.testing.assert_array_equal(load_original(None), photographs()["coffee"])
