"""Memory that a backend keeps for its next image and frees in `trim`."""

import numpy as np
import psutil
import pytest

from hfdn_deploy import Upscaler
from hfdn_deploy.machine import trim_heap


def mebibytes():
    trim_heap()
    return psutil.Process().memory_info().rss / 2**20


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_what_a_large_image_took_is_given_back(backend, photo):
    large = np.tile(photo, (4, 4, 1))
    with Upscaler.load(2, backend=backend) as up:
        expected = up(photo)
        up.backend.trim()
        before = mebibytes()
        up(large)
        kept = mebibytes() - before
        up.backend.trim()
        # 80,000 pixels at more than 5,500 bytes each.
        assert kept > 250
        assert mebibytes() - before < 40
        np.testing.assert_array_equal(up(photo), expected)


@pytest.mark.slow
def test_sizes_leave_nothing_behind(photo):
    sizes = [(height, width) for height in range(8, 22) for width in range(8, 22)]
    with Upscaler.load(4, backend="openvino") as up:
        for number, (height, width) in enumerate(sizes):
            up(photo[:height, :width])
            if number == 79:
                before = mebibytes()
        # OpenVINO's cache of shapes would grow by 1 MiB for each size.
        assert mebibytes() - before < 30


def test_sizes_in_int8_leave_no_kernels_behind(photo):
    with Upscaler.load(2, backend="openvino", precision="int8") as up:
        for width in range(8, 44):
            up(photo[:9, :width])
            if width == 15:
                before = mebibytes()
        # By default, oneDNN would keep 8 MiB for each size.
        assert mebibytes() - before < 60
