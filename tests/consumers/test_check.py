"""The harness distinguishes consumers that agree from consumers that do not, on simple graphs."""

import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.consumers.__main__ import row
from tests.consumers.check import Outcome, check
from tests.consumers.consumers import CONSUMERS, HERE

COMMAND = [sys.executable, str(HERE / "run.py"), "onnxruntime"]
IMAGES = [np.full((*size, 3), 7, np.uint8) for size in ((4, 5), (3, 2))]


def write_graph(path, added, size=("height", "width")):
    """Write a graph that adds levels to an image."""
    shape = ["batch", *size, 3]
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["wide"], to=TensorProto.INT32),
            helper.make_node("Add", ["wide", "added"], ["sum"]),
            helper.make_node("Cast", ["sum"], ["upscaled"], to=TensorProto.UINT8),
        ],
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("upscaled", TensorProto.UINT8, shape)],
        [numpy_helper.from_array(np.array(added, np.int32), "added")],
    )
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


@pytest.mark.parametrize(
    ("added", "size", "outcome"),
    [
        (0, ("height", "width"), Outcome(loads=True, levels=0, dynamic=True)),
        (3, ("height", "width"), Outcome(loads=True, levels=3, dynamic=True)),
        (0, (4, 5), Outcome(loads=True, levels=0, reason="INVALID_ARGUMENT")),
    ],
)
def test_what_a_consumer_makes_of_a_graph(added, size, outcome, tmp_path):
    write_graph(tmp_path / "a.onnx", added, size)
    found = check(COMMAND, tmp_path / "a.onnx", IMAGES, IMAGES)
    assert outcome.reason in found.reason
    assert bool(outcome.reason) == bool(found.reason)
    assert (found.loads, found.levels, found.dynamic) == (
        outcome.loads,
        outcome.levels,
        outcome.dynamic,
    )


def test_a_graph_that_is_refused(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"no graph")
    found = check(COMMAND, tmp_path / "a.onnx", IMAGES, IMAGES)
    assert (found.loads, found.levels, found.dynamic) == (False, None, False)
    assert "INVALID_PROTOBUF" in found.reason


def test_an_image_of_another_size_does_not_agree(tmp_path):
    write_graph(tmp_path / "a.onnx", 0)
    found = check(COMMAND, tmp_path / "a.onnx", IMAGES, [IMAGES[0], IMAGES[0]])
    assert (found.levels, found.dynamic) == (0, False)
    assert found.reason == "the output has another size or type"


@pytest.mark.parametrize(
    ("outcome", "cells"),
    [
        (Outcome(), ["no", "no", "no"]),
        (Outcome(loads=True, levels=0), ["yes", "yes, exactly", "no"]),
        (Outcome(loads=True, levels=1, dynamic=True), ["yes", "yes, to 1", "yes"]),
        (Outcome(loads=True, levels=2, dynamic=True), ["yes", "no, to 2", "yes"]),
    ],
)
def test_cells_of_the_table(outcome, cells):
    assert outcome.cells(most=1) == cells
    assert row(["a", *cells]) == f"| a | {cells[0]} | {cells[1]} | {cells[2]} |"


def test_each_consumer_has_a_script_and_a_name_of_its_own():
    assert len({consumer.name for consumer in CONSUMERS}) == len(CONSUMERS)
    for consumer in CONSUMERS:
        name = "run.js" if consumer.package == "node" else f"packages/{consumer.package}.py"
        assert (HERE / name).is_file()
