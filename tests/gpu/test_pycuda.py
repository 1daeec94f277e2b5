"""PyCUDA's contexts and arrays; docs/results/gpu.md says how to build PyCUDA without a GPU."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib import import_module

import numpy as np
import pytest

pytest.importorskip("cuda.bindings", reason="the extra rtx is not installed")
pytest.importorskip("pycuda", reason="PyCUDA is not installed")

from hfdn_deploy import Upscaler, cuda
from hfdn_deploy.errors import InputError
from tests.helpers.gpu import luma, real_gpu, skip_without
from tests.helpers.on_device import on_host

pytestmark = pytest.mark.gpu
REAL = real_gpu() is not None


@pytest.fixture
def context(gpu):
    """Make a context of PyCUDA current in this thread."""
    from tests.helpers.simulated_cuda.libcuda import libcuda

    with ExitStack() as simulated:
        try:
            if gpu:
                simulated.enter_context(libcuda(gpu))
            driver = import_module("pycuda.driver")
        except (ImportError, OSError) as error:
            pytest.skip(f"PyCUDA cannot be loaded: {error}")
        driver.init()
        context = driver.Device(0).make_context()
        yield context
        context.detach()


@pytest.fixture
def load(small_bundles):
    """Return a function that opens an upscaler on an engine."""
    skip_without("tensorrt")
    return lambda: Upscaler.load(4 if REAL else small_bundles[4], "tensorrt", "fp32", tile=None)


@pytest.fixture
def expected(small_bundles):
    with Upscaler.load(4 if REAL else small_bundles[4], "onnxruntime", "fp32", tile=None) as up:
        return up.upscale_luma(luma())


def to_gpu(array):
    from pycuda import gpuarray

    return gpuarray.to_gpu(np.ascontiguousarray(array))


def check(result, expected):
    from pycuda import gpuarray

    assert type(result) is gpuarray.GPUArray
    assert result.dtype == np.float32
    assert result.shape == (1, 1, *expected.shape)
    assert np.abs(result.get()[0, 0] - expected).max() <= 1e-5


def test_the_current_context_is_shared(context, load, gpu):
    before = int(cuda.current_context())
    assert before == context.handle
    with load() as up:
        up.upscale_luma(luma())
        if gpu:
            assert {stream.context for stream in gpu.streams.values()} == {context.handle}
    assert int(cuda.current_context()) == before


def test_a_gpuarray_gives_a_gpuarray(context, load, expected):
    with load() as up:
        check(up.backend.run(to_gpu(luma()[None, None])), expected)


def test_work_on_the_default_stream_is_waited_for(context, load, expected):
    """A GPUArray names no stream, though a copy to it may be pending when it is returned."""
    given = to_gpu(luma()[None, None])
    target = to_gpu(np.zeros((1, 1, *expected.shape), np.float32))
    with load() as up:
        check(up.backend.run(given.copy()), expected)
        out = target.copy()
        assert up.backend.run(given.copy(), out=out) is out
        check(out, expected)
        out = target.copy()
        assert up.backend.run(luma()[None, None], out=out) is out
        check(out, expected)


def test_a_gpuarray_outlives_what_made_it(context, load, expected):
    with load() as up:
        result = up.backend.run(to_gpu(luma()[None, None]))
        plane = result[0, 0]
        del result
    assert np.abs(plane.get() - expected).max() <= 1e-5


def test_a_thread_needs_no_context_of_its_own(context, load, expected):
    given = to_gpu(luma()[None, None])
    with load() as up, ThreadPoolExecutor(1) as thread:
        check(thread.submit(up.backend.run, given).result(), expected)


def test_the_context_may_be_another_one_by_then(context, load, expected):
    given = to_gpu(luma()[None, None])
    with load() as up:
        primary = context.get_device().retain_primary_context()
        primary.push()
        result = up.backend.run(given)
        assert int(cuda.current_context()) == primary.handle
        primary.pop()
        check(result, expected)


def test_the_primary_context_is_shared(context, load, expected):
    primary = context.get_device().retain_primary_context()
    primary.push()
    with load() as up:
        check(up.backend.run(to_gpu(luma()[None, None])), expected)
    primary.pop()


def test_a_gpuarray_with_gaps_is_refused(context, load):
    with load() as up, pytest.raises(InputError, match=r"with gaps; give a contiguous"):
        up.backend.run(to_gpu(luma()[None, None])[..., ::2])


def test_an_image_stays_on_the_device(context, load, photo):
    image = photo[:18, :32].copy()
    with load() as up:
        result = up(to_gpu(image))
        assert (on_host(result) == up(image)).all()


def test_the_context_of_results_may_be_gone(context, load, expected):
    other = context.get_device().make_context()
    with load() as up:
        on_device = up.backend.run(to_gpu(luma()[None, None]))
        result = up.upscale_luma(luma())
    other.detach()
    assert np.abs(result - expected).max() <= 1e-5
    del on_device
    assert int(cuda.current_context()) == context.handle
