"""What runs on a GPU alone; scripts/gpu_check.sh runs it."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from hfdn_deploy import Upscaler, backends, cuda
from hfdn_deploy.bench import photographs
from hfdn_deploy.bundle import pretrained
from hfdn_deploy.engines import (
    BuildSpec,
    cache_folder,
    cached_engine,
    choose_flavour,
    presets,
    read_sidecar,
    resolve_targets,
    sidecar_path,
)
from hfdn_deploy.errors import BackendError, EngineError, InputError
from hfdn_deploy.network import load_checkpoint
from tests.helpers.paths import ROOT

pytestmark = pytest.mark.gpu

# Largest departure from PyTorch in fp32, on the scale 0..1.
LIMITS = {"fp32": 1e-4, "fp16": 1 / 255, "int8": 32 / 255}
# And of tiles from the whole on the same backend.
TILED = {"fp32": 1e-5, "fp16": 1 / 255, "int8": 1 / 255}
BACKENDS = ("tensorrt", "cuda", "rtx-ep")


def luma(height=180, width=320):
    grey = photographs()["camera"][:height, :width]
    return (grey / np.float32(255)).astype(np.float32)


def load(backend, precision="fp16", scale=4, tile="auto"):
    # An engine must run wherever there is a GPU; the others are optional packages.
    if backend != "tensorrt" and (reason := backends.why_unavailable(backend)):
        pytest.skip(reason)
    return Upscaler.load(scale, backend, precision, tile=tile)


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


def test_the_events_clock_the_computation_alone():
    lr = luma()[None, None]
    with load("tensorrt") as up:
        shares = []
        for _ in range(20):
            start = time.perf_counter()
            up.backend.run(lr)
            shares.append(up.backend.seconds() / (time.perf_counter() - start))
        small = luma(32, 32)[None, None]
        large = up.backend.seconds()
        for _ in range(3):
            up.backend.run(small)
        assert 0 < up.backend.seconds() < large
    assert all(0 < share < 1 for share in shares)


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
        load("tensorrt", tile=None) as up,
        pytest.raises(InputError, match="no profile of the engine takes 1x1025x8 pixels"),
    ):
        up.upscale_luma(luma(8, 8).repeat(129, axis=1)[:, :1025])


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("precision", LIMITS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_tiles_make_the_whole(backend, precision, scale):
    with (
        load(backend, precision, scale, tile=None) as whole,
        load(backend, precision, scale, tile=48) as tiled,
    ):
        for size in ((180, 320), (1, 1), (97, 61), (200, 3)):
            plane = luma(*size)
            departure = np.abs(tiled.upscale_luma(plane) - whole.upscale_luma(plane)).max()
            assert departure <= TILED[precision], (size, departure)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_mean_given_to_a_tile_is_used(backend):
    with load(backend, "fp32", 2) as up:
        tile = luma(90, 88)[None, None]
        whole = up.backend.run(tile)
        mean = up.backend.tiling.pooled_sums(tile, np.ones_like(tile)) / np.float32(90 * 88)
        assert mean.shape == (1, 48, 1, 1)
        assert np.abs(up.backend.tiling.run_tile(tile, mean) - whole).max() <= 1e-5
        assert np.abs(up.backend.tiling.run_tile(tile, mean + 1) - whole).max() > 5e-3


def test_what_is_longer_than_the_profile_goes_in_tiles(reference):
    plane = np.pad(luma(300, 500), ((0, 0), (0, 530)), mode="reflect")
    with load("tensorrt", "fp32", 2) as up:
        assert up.plan((1024, 1024)).side is None
        assert up.plan(plane.shape).side == 1024 - 2 * up.backend.tiling.halo
        assert np.abs(up.upscale_luma(plane) - reference(plane, 2)).max() <= LIMITS["fp32"]
    with pytest.raises(InputError, match="runs tiles of at most 984 pixels, not 985"):
        load("tensorrt", scale=2, tile=985)


def test_the_engines_of_tiles_are_built_with_the_first_one():
    def built():
        return len(list(cache_folder().glob("*/engine/*.engine")))

    with load("tensorrt", tile=48) as up:
        # Smaller than a tile and its halo: whole.
        up.upscale_luma(luma(40, 60))
        assert built() == 1
        expected = up.upscale_luma(luma())
        assert built() == 3
    with load("tensorrt", tile=48) as up:
        assert (up.upscale_luma(luma()) == expected).all()
        assert built() == 3


def test_a_part_under_the_sidecar_of_the_whole_is_refused():
    flavour = choose_flavour("auto").name
    spec = BuildSpec(flavour, (presets(4)["photo"],), resolve_targets(flavour, ()))
    engine = cached_engine(pretrained(4), "fp16", spec, "tile")
    manifest = read_sidecar(engine)
    forged = replace(manifest, part="whole", inputs=manifest.inputs[:1]).sealed()
    sidecar_path(engine).write_text(forged.to_json())
    with pytest.raises(EngineError, match=r"has the tensors .*pooled.* where its sidecar"):
        Upscaler.load(engine)


def test_threads_share_the_engines_of_tiles():
    planes = [luma(150 - 7 * index, 200) for index in range(8)]
    with load("tensorrt", tile=48) as up, ThreadPoolExecutor(8) as threads:
        results = list(threads.map(up.upscale_luma, planes))
        for plane, result in zip(planes, results, strict=True):
            assert (up.upscale_luma(plane) == result).all()


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
    flavour = choose_flavour("auto").name
    options = (flavour, (presets(4)["photo"],), resolve_targets(flavour, ()))
    whole = cached_engine(pretrained(4), "fp32", BuildSpec(*options))
    stripped = cached_engine(pretrained(4), "fp32", BuildSpec(*options, strip_weights=True))
    assert stripped.stat().st_size < 0.7 * whole.stat().st_size
    with Upscaler.load(whole) as up, Upscaler.load(stripped) as light:
        assert np.abs(up.upscale_luma(luma()) - light.upscale_luma(luma())).max() <= 1e-5
