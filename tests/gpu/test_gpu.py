"""What runs on a GPU alone; scripts/gpu_check.sh runs it."""

import numpy as np
import pytest
import torch

from hfdn_deploy import Upscaler, backends
from hfdn_deploy.bundle import pretrained
from hfdn_deploy.engines import cuda
from hfdn_deploy.engines.cache import cached_engine, resolve_targets
from hfdn_deploy.engines.flavour import choose
from hfdn_deploy.engines.spec import BuildSpec, presets
from hfdn_deploy.errors import BackendError, InputError
from hfdn_deploy.network.checkpoints import load_checkpoint
from hfdn_deploy.photographs import photographs
from tests.conftest import ROOT

pytestmark = pytest.mark.gpu

# Largest departure from PyTorch in fp32, on the scale 0..1.
LIMITS = {"fp32": 1e-4, "fp16": 1 / 255, "int8": 32 / 255}
BACKENDS = ("tensorrt", "cuda", "rtx-ep")


def luma(height=180, width=320):
    grey = photographs()["camera"][:height, :width]
    return (grey / np.float32(255)).astype(np.float32)


def load(backend, precision="fp16", scale=4):
    # An engine must run wherever there is a GPU; the others are optional packages.
    if backend != "tensorrt" and (reason := backends.why_unavailable(backend)):
        pytest.skip(reason)
    return Upscaler.load(scale, backend, precision)


@pytest.fixture(scope="module")
def reference():
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    networks = {}

    def run(plane, scale):
        if scale not in networks:
            path = ROOT / "checkpoints" / f"hfdn_x{scale}.safetensors"
            networks[scale] = load_checkpoint(path).cuda()
        with torch.inference_mode():
            return networks[scale](torch.from_numpy(plane[None, None]).cuda())[0, 0].cpu().numpy()

    return run


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("precision", LIMITS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_parity_with_pytorch_on_this_gpu(reference, backend, precision, scale):
    with load(backend, precision, scale) as up:
        for size in ((180, 320), (1, 1), (97, 61)):
            plane = luma(*size)
            departure = np.abs(up.upscale_luma(plane) - reference(plane, scale)).max()
            assert departure <= LIMITS[precision], (size, departure)


@pytest.mark.parametrize("precision", LIMITS)
def test_replayed_graphs_equal_plain_execution(precision):
    with load("tensorrt", precision) as up:
        first, other = luma(), luma()[::-1].copy()
        plain, captured, replayed = (up.upscale_luma(first) for _ in range(3))
        assert (plain == captured).all()
        assert (plain == replayed).all()
        again = up.upscale_luma(other)
    with load("tensorrt", precision) as up:
        assert (again == up.upscale_luma(other)).all()


def test_interleaved_sizes_equal_plain_execution():
    """More sizes than are kept, coming back again and again, as tiles and photographs do."""
    sizes = [(40 + 8 * i, 60) for i in range(12)]
    with load("tensorrt") as up:
        expected = {size: up.upscale_luma(luma(*size)) for size in sizes}
        for turn in range(5):
            for size in sizes[: 12 - 2 * turn]:
                assert (up.upscale_luma(luma(*size)) == expected[size]).all(), size


def test_work_of_others_on_an_array_is_waited_for():
    plane = luma()
    with load("tensorrt") as up:
        expected = up.upscale_luma(plane)
        stream = torch.cuda.Stream()
        given = torch.full((1, 1, *plane.shape), torch.nan, device="cuda")
        source = torch.from_numpy(plane[None, None]).pin_memory()
        with torch.cuda.stream(stream):
            torch.cuda._sleep(200_000_000)
            given.copy_(source, non_blocking=True)
            result = up.backend.run(given)
        got = torch.as_tensor(result, device="cuda")[0, 0].cpu().numpy()
        assert np.abs(got - expected).max() <= 1e-6


def test_pictures_in_flight_do_not_mix():
    pictures = [photographs()["chelsea"][:h, :w] for h, w in ((60, 80), (40, 30), (60, 81)) * 6]
    with load("tensorrt") as up:
        expected = [up(picture) for picture in pictures]
        futures = [up.submit(picture) for picture in pictures]
        for future, result in zip(futures, expected, strict=True):
            assert (future.result() == result).all()


@pytest.mark.parametrize("backend", ["tensorrt", "cuda"])
def test_arrays_on_the_device_stay_there(backend):
    plane = luma()
    with load(backend) as up:
        expected = up.upscale_luma(plane)
        given = torch.from_numpy(plane[None, None]).cuda()
        result = up.backend.run(given)
        assert cuda.is_device_array(result)
        got = torch.as_tensor(result, device="cuda")[0, 0].cpu().numpy()
        assert np.abs(got - expected).max() <= 1e-6


def test_the_result_goes_where_it_is_asked_to():
    plane = luma()
    with load("tensorrt") as up:
        expected = up.upscale_luma(plane)
        target = torch.full((1, 1, 720, 1280), torch.nan, device="cuda")
        for given in (plane[None, None], torch.from_numpy(plane[None, None]).cuda()):
            target.fill_(torch.nan)
            assert up.backend.run(given, out=target) is target
            assert np.abs(target[0, 0].cpu().numpy() - expected).max() <= 1e-6


@pytest.mark.parametrize("backend", ["tensorrt", "cuda"])
def test_a_strided_array_on_the_device_is_refused(backend):
    with (
        load(backend) as up,
        pytest.raises(InputError, match="contiguous"),
    ):
        up.backend.run(torch.zeros(1, 1, 20, 40, device="cuda")[..., ::2])


def test_a_shape_outside_all_profiles_is_refused():
    with (
        load("tensorrt") as up,
        pytest.raises(InputError, match="no profile of the engine takes 1x1025x8 pixels"),
    ):
        up.upscale_luma(luma(8, 8).repeat(129, axis=1)[:, :1025])


def test_out_of_memory_says_what_would_fit():
    with load("tensorrt") as up:
        # Each slot has captured its graph by then.
        small, *_ = [up.upscale_luma(luma(64, 64)) for _ in range(4)]
        free, _ = torch.cuda.mem_get_info()
        hog = torch.empty(free - (64 << 20), dtype=torch.uint8, device="cuda")
        plane = np.random.default_rng(0).random((1024, 1024), np.float32)
        with pytest.raises(BackendError, match=r"need about \d+ MiB .* tiles of \d+ pixels"):
            up.upscale_luma(plane)
        for _ in range(4):
            assert (up.upscale_luma(luma(64, 64)) == small).all()
        del hog
        torch.cuda.empty_cache()
        assert up.upscale_luma(plane).shape == (4096, 4096)


def test_a_thousand_calls_do_not_grow():
    sizes = [(64, 64), (33, 90), (128, 96)]
    with load("tensorrt") as up:
        for call in range(1100):
            up.upscale_luma(luma(*sizes[call % 3]))
            if call == 99:
                before, _ = cuda.call("cudaMemGetInfo")
        after, _ = cuda.call("cudaMemGetInfo")
    assert before - after <= 1 << 20


def test_a_stripped_engine_takes_its_weights_from_the_bundle():
    flavour = choose("auto").name
    options = (flavour, (presets(4)["photo"],), resolve_targets(flavour, ()))
    whole = cached_engine(pretrained(4), "fp32", BuildSpec(*options))
    stripped = cached_engine(pretrained(4), "fp32", BuildSpec(*options, strip_weights=True))
    assert stripped.stat().st_size < 0.7 * whole.stat().st_size
    with Upscaler.load(whole) as up, Upscaler.load(stripped) as light:
        assert np.abs(up.upscale_luma(luma()) - light.upscale_luma(luma())).max() <= 1e-5
