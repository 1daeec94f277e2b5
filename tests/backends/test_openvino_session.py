"""Graphs compiled for sizes that come often."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from hfdn_deploy import Upscaler
from hfdn_deploy.backends import openvino
from hfdn_deploy.bundle import pretrained

pytestmark = pytest.mark.usefixtures("every_core")


@pytest.fixture
def backend():
    return openvino.OpenVINOBackend(pretrained(2), "int8")


def luma(height, width):
    """Return a slope with a little noise; pure noise moves int8 by half a level with every tie."""
    slope = np.linspace(0.2, 0.8, height * width, dtype=np.float32).reshape(1, 1, height, width)
    return slope + np.random.default_rng(0).normal(0, 0.02, slope.shape).astype(np.float32)


def ran(backend):
    """Return whether the last run used the requests for any size."""
    return backend.session._last is backend.session.dynamic


def test_a_size_is_prepared_and_others_stay(backend):
    before, other = backend.run(luma(9, 12)), backend.run(luma(12, 9))
    assert ran(backend)
    backend.prepare(9, 12, 1)
    after = backend.run(luma(9, 12))
    assert not ran(backend)
    # The sums may have another order, so that a tie rounds the other way.
    assert 255 * np.sqrt(np.mean((after - before) ** 2)) < 0.2
    np.testing.assert_array_equal(backend.run(luma(9, 12)), after)
    np.testing.assert_array_equal(backend.run(luma(12, 9)), other)
    assert ran(backend)
    backend.prepare(12, 9, 1)
    backend.run(luma(12, 9))
    assert not ran(backend)
    np.testing.assert_array_equal(backend.run(luma(9, 12)), before)


def test_what_is_prepared_computes_in_integers(backend):
    backend.prepare(9, 12, 1)
    (fixed,) = backend.session.fixed.values()
    kinds = openvino.computed_in(backend.session.dynamic.compiled)
    assert openvino.computed_in(fixed.compiled) == kinds


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_two_threads_compute_at_once_what_is_prepared_for_two(precision):
    backend = openvino.OpenVINOBackend(pretrained(2), precision)
    alone = backend.run(luma(9, 12))
    backend.prepare(9, 12, 2)
    prepared = backend.run(luma(9, 12))
    assert 255 * np.sqrt(np.mean((prepared - alone) ** 2)) < 0.2
    (requests,) = backend.session.fixed.values()
    assert requests.compiled.get_property("NUM_STREAMS") == 2
    busy = requests.take()
    np.testing.assert_array_equal(backend.run(luma(9, 12)), prepared)  # in the other stream
    with ThreadPoolExecutor(2) as pool:
        other = pool.submit(backend.run, luma(12, 9))  # frees the memory of both first
        with pytest.raises(TimeoutError):
            other.result(0.3)
        requests.give_back(busy)
        assert other.result().shape == (1, 1, 24, 18)
        for result in pool.map(backend.run, [luma(9, 12)] * 8):
            np.testing.assert_array_equal(result, prepared)


def test_fp32_has_nothing_to_prepare():
    backend = openvino.OpenVINOBackend(pretrained(2), "fp32")
    backend.prepare(8, 8, 1)
    backend.run(luma(8, 8))
    assert ran(backend)


@pytest.mark.parametrize(("number", "prepared"), [(5, False), (6, True)])
def test_preparing_is_for_many_images_alone(monkeypatch, number, prepared):
    monkeypatch.setattr("hfdn_deploy.upscaler.planning.WORTH_PREPARING", 5 * 8 * 9)
    image = np.zeros((8, 9, 3), np.uint8)
    with Upscaler.load(2, "openvino", "int8") as up:
        up.plan_many(image.shape, np.uint8, number)
        up(image)
        assert ran(up.backend) != prepared


def tiled(up, image):
    """Return the result, and the requests for fixed shapes by part of the graph."""
    result = up(image)
    sessions = up.backend.tiling.repeated.split._sessions._opened
    return result, {part: session.fixed for part, session in sessions.items()}


@pytest.mark.slow
@pytest.mark.parametrize(("ensemble", "tile", "shapes"), [(False, 16, 1), (True, 64, 2)])
def test_the_tiles_of_a_large_image_are_compiled_for(monkeypatch, photo, ensemble, tile, shapes):
    image = np.vstack([photo, photo[::-1]])
    with Upscaler.load(2, "openvino", "int8", tile=tile, ensemble=ensemble) as up:
        dynamic, compiled = tiled(up, image)
        assert not compiled
        monkeypatch.setattr("hfdn_deploy.tiling.luma.WORTH_PREPARING", 120 * 83 - 1)
        fixed, compiled = tiled(up, image)
        assert [len(compiled[part]) for part in ("trunk", "heads")] == [shapes] * 2
        again, kept = tiled(up, image)
    assert kept == compiled  # the very same requests
    np.testing.assert_array_equal(again, fixed)
    difference = fixed.astype(int) - dynamic
    assert 0 < np.abs(difference).max() <= 8
    assert np.sqrt(np.mean(difference**2)) < 0.5


def test_fp32_has_no_tiles_of_its_own_for_one_shape():
    tiling = openvino.OpenVINOBackend(pretrained(2), "fp32").tiling
    assert tiling.repeated is tiling
