import numpy as np
import onnx
import pytest

from hfdn_deploy.bundle import pretrained_scales
from hfdn_deploy.graph import pixels_by_rows
from tests.helpers.graphs import load_graph, run


@pytest.mark.parametrize("scale", pretrained_scales())
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 1, 1, 7), (3, 1, 5, 4)])
def test_rows_of_pixels_are_those_of_depth_to_space(scale, shape):
    model = load_graph("int8-openvino", scale)
    by_rows = pixels_by_rows(model)
    onnx.checker.check_model(by_rows, full_check=True)
    kinds = [node.op_type for node in by_rows.graph.node]
    assert kinds.count("DepthToSpace") == 1  # the last, of one channel
    assert kinds.count("Slice") == 3
    lr = np.random.default_rng(0).random(shape, np.float32)
    np.testing.assert_array_equal(run(by_rows, lr=lr), run(model, lr=lr))


def test_a_graph_without_depth_to_space_of_this_order_stays():
    model = load_graph("fp32")
    assert pixels_by_rows(model) == model
