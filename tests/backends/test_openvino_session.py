"""Sizes that keep coming are compiled for; needs OpenVINO."""

import gc

import numpy as np
import pytest

from hfdn_deploy import Upscaler
from hfdn_deploy.backends import openvino, openvino_session
from hfdn_deploy.bundle import pretrained


@pytest.fixture
def session(monkeypatch):
    """int8 at ×2, for which compiling is always worth it."""
    monkeypatch.setattr(openvino_session, "_fixed", openvino_session._Fixed())
    monkeypatch.setattr(openvino_session, "_WORTH_SECONDS", 0)
    data = pretrained(2).read_model(openvino.graph_here(pretrained(2), "int8"))
    return openvino_session.Session(data, "f32", lambda compiled: None, repeats=True)


def luma(height, width):
    return {"lr": np.random.default_rng(0).random((1, 1, height, width), np.float32)}


def kept():
    return [shapes[0][1][2:] for _, shapes in openvino_session._fixed._requests]


def test_a_size_is_compiled_for_after_its_second_use(session):
    first, second = session.infer(luma(9, 12)), session.infer(luma(9, 12))
    assert kept() == []
    third, fourth = session.infer(luma(9, 12)), session.infer(luma(9, 12))
    assert kept() == [(9, 12)]
    np.testing.assert_array_equal(second, first)
    np.testing.assert_array_equal(fourth, third)
    # Libraries may sum in another order.
    np.testing.assert_allclose(third, first, rtol=0, atol=0.5 / 255)
    session.infer(luma(12, 9))
    assert kept() == [(9, 12)]


def test_a_size_waits_until_its_runs_took_as_long_as_compiling(session, monkeypatch):
    monkeypatch.setattr(openvino_session, "_WORTH_SECONDS", 3600)
    for _ in range(4):
        session.infer(luma(9, 12))
    assert kept() == []


def test_nothing_is_compiled_for_a_size_where_memory_is_short(session, monkeypatch):
    monkeypatch.setattr(openvino_session, "free_memory", lambda: 2**20)
    for _ in range(4):
        session.infer(luma(9, 12))
    assert kept() == []


def test_what_is_compiled_keeps_within_its_bytes(session, monkeypatch):
    one = openvino_session._FOR_EACH_BYTE * len(session._data)
    monkeypatch.setattr(openvino_session, "_BUDGET", 2.5 * one)
    for width in (8, 9, 10):
        for _ in range(3):
            session.infer(luma(8, width))
    assert kept() == [(8, 9), (8, 10)]
    for _ in range(2):
        session.infer(luma(8, 8))  # what had to go is counted anew
    assert kept() == [(8, 9), (8, 10)]
    session.infer(luma(8, 9))
    session.infer(luma(8, 8))
    assert kept() == [(8, 9), (8, 8)]


def test_what_a_backend_compiled_goes_with_it(monkeypatch):
    monkeypatch.setattr(openvino_session, "_fixed", openvino_session._Fixed())
    monkeypatch.setattr(openvino_session, "_WORTH_SECONDS", 0)
    with Upscaler.load(2, "openvino", "int8") as up:
        for _ in range(3):
            up(np.zeros((8, 8), np.uint8))
        assert kept() == [(8, 8)]
    gc.collect()
    assert kept() == []


def test_precisions_other_than_int8_have_no_fixed_sizes(monkeypatch):
    monkeypatch.setattr(openvino_session, "_fixed", openvino_session._Fixed())
    monkeypatch.setattr(openvino_session, "_WORTH_SECONDS", 0)
    backend = openvino.OpenVINOBackend(pretrained(2), "fp32")
    for _ in range(3):
        backend.run(luma(8, 8)["lr"])
    assert kept() == []
