"""Failures of each CUDA or TensorRT call: clear errors, no leaks, no partial results."""

import gc
import re
from itertools import count

import numpy as np
import pytest

pytest.importorskip("cuda.bindings", reason="the extra rtx is not installed")

from hfdn_deploy import Upscaler, cuda
from hfdn_deploy.bundle import Bundle
from hfdn_deploy.engines import BuildSpec, cached_engine, presets
from hfdn_deploy.errors import BackendError, EngineError
from tests.helpers.gpu import luma
from tests.helpers.on_device import OnDevice, on_host

IMAGES = [luma(8, 10)[None, None], luma(16, 12)[None, None]]
RESTART = "the process cannot use the GPU any more: restart it"
# Calls that may fail silently: the build finds no GPU, kernels are compiled again, the pool frees
# its memory and retries, and waits for streams are repeated; the test frees its arrays.
QUIET = {
    "cudaGetDeviceCount",
    "cudaGetDevice",
    "Config.set_runtime_cache",
    "cudaMalloc",
    "cudaMallocHost",
    "cudaStreamSynchronize",
    "cudaFree",
}


@pytest.fixture
def _few_to_collect():
    """Exclude the objects that exist before the test from garbage collection."""
    gc.collect()
    gc.freeze()
    yield
    gc.collect()
    gc.unfreeze()


@pytest.fixture
def expected(small_bundles):
    with Upscaler.load(small_bundles[4], "onnxruntime", "fp32") as up:
        return [up.backend.run(image) for image in IMAGES]


def check(result, expected):
    assert np.abs(result - expected).max() < 1e-5


def of_bundle(small_bundles, expected):
    """Return a function that opens a bundle, and one that uses it and its tiles."""
    image, engines = IMAGES[0], {}

    def use(up):
        find = up.backend.engine

        def found(precision, part):
            # The calls are those for the whole graph, so each part is built once to save time.
            if part not in engines:
                engines[part] = find(precision, part)
            return engines[part]

        up.backend.engine = found
        check(up.upscale_luma(image[0, 0]), expected[0][0, 0])
        tiling = up.backend.tiling
        mean = tiling.pooled_sums(image, np.ones_like(image)) / np.float32(image.size)
        check(tiling.run_tile(image, mean), expected[0])

    return lambda: Upscaler.load(small_bundles[4], "tensorrt", "fp32"), use


def of_engine(small_bundles, expected):
    """Return a function that opens an engine, and one that uses it in all ways."""
    spec = BuildSpec("rtx", (presets(4)["photo"], presets(4)["tile"]), ("sm89",))
    engine = cached_engine(Bundle(small_bundles[4]), "fp32", spec)
    given = np.ascontiguousarray(IMAGES[0])

    def use(up):
        backend = up.backend
        # Enqueued, captured, replayed; then with more memory, which moves the buffers.
        for index in (0, 0, 0, 1, 0):
            check(backend.run(IMAGES[index]), expected[index])
        with OnDevice(given) as image, OnDevice(np.zeros_like(expected[0])) as target:
            for result in (
                backend.run(image),
                backend.run(image, out=target),
                backend.run(given, out=target),
            ):
                check(on_host(result), expected[0])
        backend.seconds()

    return lambda: Upscaler.load(engine, tile=None), use


def attempt(gpu, number, load, use, *, sticky):
    """Load, use and close an upscaler while call `number` fails.

    Returns:
        The name of the call, None if there are fewer calls; what the user saw; and what was wrong
        afterwards.
    """
    before = len(gpu.calls)
    gpu.fail(number, sticky=sticky)
    loaded = closed = None
    seen, wrong = [], []
    try:
        loaded = load()
        use(loaded)
        closed = True
        loaded.close()
    except (BackendError, EngineError) as error:
        seen.append(str(error))
    if gpu.unmet:
        gpu.forget_faults()
        return None, seen, wrong
    call = gpu.calls[before + number - 1]
    if sticky and not closed:
        with pytest.raises(BackendError, match=RESTART):
            use(loaded) if loaded else load()
        assert RESTART in cuda.why_lost()
    elif not sticky:
        again = loaded if loaded and not closed else load()
        use(again)
        if again is not loaded:
            again.close()
        del again
    if loaded and not closed:
        try:
            loaded.close()
        except BackendError as error:
            seen.append(str(error))
    del loaded
    # Objects in the error's frames must not be freed while the next GPU is active.
    gc.collect()
    if not sticky:
        wrong = [*gpu.violations, *gpu.leaks()]
    return call, seen, wrong


@pytest.mark.slow
@pytest.mark.usefixtures("_few_to_collect")
@pytest.mark.parametrize("sticky", [False, True], ids=["once", "for good"])
@pytest.mark.parametrize(("kind", "calls"), [(of_bundle, 115), (of_engine, 170)])
def test_a_call_that_fails(gpu, caplog, small_bundles, expected, kind, calls, sticky):
    load, use = kind(small_bundles, expected)
    problems = []
    for number in count(1):
        gpu.restart()
        call, seen, wrong = attempt(gpu, number, load, use, sticky=sticky)
        if call is None:
            break
        told = [*seen, *caplog.messages]
        caplog.clear()
        noticed = told or (call in QUIET and not sticky)
        clear = all(re.fullmatch(r"[^\n]{30,900}\.", message) for message in told)
        restart = not sticky or all(RESTART in message for message in told)
        if wrong or not (clear and noticed and restart):
            problems.append((number, call, seen, wrong))
    gpu.restart()
    assert problems == [], problems
    assert number > calls
