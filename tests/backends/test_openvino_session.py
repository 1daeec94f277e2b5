"""A size that will come often is compiled for."""

import numpy as np
import pytest

from hfdn_deploy import Upscaler
from hfdn_deploy.backends import openvino
from hfdn_deploy.bundle import pretrained


@pytest.fixture
def backend():
    return openvino.OpenVINOBackend(pretrained(2), "int8")


def luma(height, width):
    return np.random.default_rng(0).random((1, 1, height, width), np.float32)


def ran(backend):
    """Whether the last run was of what is compiled for any size."""
    return backend.session._last is backend.session.request


def test_a_size_is_prepared_and_others_stay(backend):
    before, other = backend.run(luma(9, 12)), backend.run(luma(12, 9))
    assert ran(backend)
    backend.prepare(9, 12)
    after = backend.run(luma(9, 12))
    assert not ran(backend)
    # Of noise; libraries may sum in another order, and a tie is rounded the other way.
    assert 255 * np.sqrt(np.mean((after - before) ** 2)) < 0.5
    np.testing.assert_array_equal(backend.run(luma(9, 12)), after)
    np.testing.assert_array_equal(backend.run(luma(12, 9)), other)
    assert ran(backend)
    backend.prepare(12, 9)
    backend.run(luma(12, 9))
    assert not ran(backend)
    np.testing.assert_array_equal(backend.run(luma(9, 12)), before)


def test_what_is_prepared_computes_in_integers(backend):
    backend.prepare(9, 12)
    fixed = backend.session._fixed[1].get_compiled_model()
    assert openvino.computed_in(fixed) == openvino.computed_in(
        backend.session.request.get_compiled_model()
    )


def test_fp32_has_nothing_to_prepare():
    backend = openvino.OpenVINOBackend(pretrained(2), "fp32")
    backend.prepare(8, 8)
    backend.run(luma(8, 8))
    assert ran(backend)


@pytest.mark.parametrize(("number", "prepared"), [(5, False), (6, True)])
def test_preparing_is_for_many_images_alone(monkeypatch, number, prepared):
    monkeypatch.setattr("hfdn_deploy.upscaler.running._WORTH", 5 * 8 * 9)
    image = np.zeros((8, 9, 3), np.uint8)
    with Upscaler.load(2, "openvino", "int8") as up:
        up.prepare(up.plan(image.shape), number)
        up(image)
        assert ran(up.backend) != prepared
