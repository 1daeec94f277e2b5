"""CUDA contexts made current by the caller, and broken contexts, on the simulated GPU."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest

pytest.importorskip("cuda.bindings", reason="the extra rtx is not installed")

from cuda.bindings import driver

from hfdn_deploy import Upscaler, cuda
from hfdn_deploy.bundle import Bundle, TensorSpec
from hfdn_deploy.engines import (
    FLAVOURS,
    BuildSpec,
    EngineRunner,
    build_engine,
    cached_engine,
    open_engine,
    presets,
)
from hfdn_deploy.graph import part_of
from hfdn_deploy.options import ModelOptions
from tests.helpers.gpu import luma
from tests.helpers.graphs import run
from tests.helpers.on_device import OnDevice, on_host
from tests.helpers.small_bundle import small_model

OWN = 0xABC


@pytest.fixture
def own_context(gpu):
    """Make a context of the caller current in this thread."""
    cuda.current_context()
    gpu.contexts.add(OWN)
    with cuda.context(driver.CUcontext(OWN)):
        yield


@pytest.mark.usefixtures("own_context")
def test_an_engine_is_built_in_the_context_of_the_caller(gpu, monkeypatch):
    trt = FLAVOURS["rtx"].trt
    builder, seen = trt.Builder, []

    def note(log):
        seen.append(gpu.context)
        return builder(log)

    monkeypatch.setattr(trt, "Builder", note)
    model = small_model(4)
    spec = BuildSpec("rtx", (presets(4)["720p"],), ("sm89",))
    inputs = [TensorSpec.from_onnx(model.graph.input[0])]
    assert build_engine("small", model.SerializeToString(), inputs, spec)
    assert seen == [OWN]


def test_without_a_context_of_its_own_a_build_needs_no_gpu(gpu):
    gpu.fail(1)  # as without a driver
    model = small_model(2)
    spec = BuildSpec("rtx", (presets(2)["720p"],), ("sm89",))
    inputs = [TensorSpec.from_onnx(model.graph.input[0])]
    assert build_engine("small", model.SerializeToString(), inputs, spec)


@pytest.mark.usefixtures("own_context")
def test_any_thread_runs_in_the_context_in_which_it_was_opened(gpu, small_bundles):
    planes = [luma(18 - index, 32) for index in range(3)]
    with Upscaler.load(small_bundles[4], "onnxruntime", "fp32", tile=None) as reference:
        expected = [reference.upscale_luma(plane) for plane in planes]
    with (
        Upscaler.load(small_bundles[4], "tensorrt", "fp32", tile=8) as up,
        ThreadPoolExecutor(3) as threads,
    ):
        for result, right in zip(threads.map(up.upscale_luma, planes), expected, strict=True):
            assert np.abs(result - right).max() < 1e-5
        assert {stream.context for stream in gpu.streams.values()} == {OWN}


@pytest.mark.usefixtures("own_context")
def test_a_result_on_the_host_outlives_the_context_of_the_caller(gpu, small_bundles):
    with Upscaler.load(small_bundles[4], "onnxruntime", "fp32", tile=None) as reference:
        expected = reference.upscale_luma(luma())
    with Upscaler.load(small_bundles[4], "tensorrt", "fp32", tile=None) as up:
        result = up.upscale_luma(luma())
    gpu.destroy(OWN)
    assert np.abs(result - expected).max() < 1e-5


def test_beside_the_context_of_the_caller_none_is_made(gpu):
    gpu.started = True
    gpu.contexts.add(OWN)
    with cuda.context(driver.CUcontext(OWN)):
        assert cuda.Pool(cuda.current_context(), pinned=True).lent == cuda.HELD
    assert not gpu.primary


def test_an_image_that_does_not_fit_on_the_device_goes_in_tiles(small_bundles):
    plane = np.tile(luma(18, 32), (9, 5))
    with Upscaler.load(small_bundles[4], "onnxruntime", "fp32", tile=None) as reference:
        expected = reference.upscale_luma(plane)
    free, _ = cuda.call("cudaMemGetInfo")
    hog = cuda.call("cudaMalloc", free - (8 << 20))
    with Upscaler.load(small_bundles[4], "tensorrt", "fp32") as up:
        # 400 bytes of scratch memory, and for each of three images 4 of input and 64 of output.
        assert up.backend.bytes_per_pixel() == 400 + 3 * (4 + 64)
        side = math.isqrt((4 << 20) // 604) - 2 * 2
        assert up.plan((83, 83)).side is None
        assert up.plan(plane.shape).side == side == 79
        assert np.abs(up.upscale_luma(plane) - expected).max() < 1e-5
    cuda.call("cudaFree", hog)


def test_a_service_whose_context_broke_says_that_it_must_be_restarted(gpu, small_bundles, photo):
    pytest.importorskip("fastapi")
    from hfdn_deploy.service import ModelSettings
    from tests.helpers.service import encoded, running

    model = ModelOptions(model=str(small_bundles[4]), backend="tensorrt", precision="fp32")
    png = encoded(photo[:16, :24], ".png")
    with running(ModelSettings((model,))) as served:
        assert served.post(png).status_code == 200
        assert served.get("/healthz").status_code == 200
        gpu.fail(1, sticky=True)
        answer = served.post(png)
        assert answer.status_code == 500
        assert "restart it" in answer.text
        for path in ("/livez", "/readyz", "/healthz"):
            health = served.get(path)
            assert health.status_code == 503
            assert health.json()["reason"].endswith(
                "(CUDA_ERROR_ILLEGAL_ADDRESS); the process cannot use the GPU any more: restart it."
            )


def test_a_runner_takes_pixels(small_bundles, photo):
    """An engine of the image graph has other axes and another dtype."""
    bundle = Bundle(small_bundles[4])
    spec = BuildSpec("rtx", (presets(4)["photo"],), ("sm89",))
    runner = EngineRunner(open_engine(cached_engine(bundle, "fp32", spec, "image"), part="image"))
    model = onnx.load_model_from_string(part_of(bundle.read_model("fp32"), "image", 4))
    for crop in (photo[:12, :10], photo[8:20, 5:15], photo[:7, :9]):
        image = np.ascontiguousarray(crop[None])
        expected = run(model, image=image)
        result = runner.run([image])
        assert result.dtype == np.uint8
        assert result.shape == (1, 4 * crop.shape[0], 4 * crop.shape[1], 3)
        assert (result == expected).all()
        with OnDevice(image) as given:
            assert (on_host(runner.run([given])) == expected).all()
    runner.close()
