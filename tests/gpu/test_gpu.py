"""Correctness of engines on a real GPU and on the simulated one."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("cuda.bindings", reason="the extra rtx is not installed")

from hfdn_deploy import Upscaler
from hfdn_deploy.bench import photographs
from hfdn_deploy.bundle import Bundle, pretrained
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
from hfdn_deploy.errors import EngineError, InputError
from tests.helpers.gpu import luma, real_gpu, skip_without
from tests.helpers.paths import ROOT

pytestmark = pytest.mark.gpu
torch = pytest.importorskip("torch", exc_type=ModuleNotFoundError)

REAL = real_gpu() is not None
# Largest difference from PyTorch in fp32, on the scale 0..1.
LIMITS = {"fp32": 1e-4, "fp16": 1 / 255, "int8": 32 / 255}
# Largest difference of tiles from the whole image on the same backend. In fp32, a GPU sums in an
# order that depends on the shape: cuDNN and TensorRT choose kernels by shape, among them Winograd's
# with some ten times the error of a plain sum. A relative error of 1e-6 a layer can reach 1e-4
# after forty layers. The simulated GPU uses ONNX Runtime's convolutions, which sum in one order.
TILED = {"fp32": 1e-4 if REAL else 1e-5, "fp16": 1 / 255, "int8": 1 / 255}
SCALES = (2, 3, 4) if REAL else (4,)
PRECISIONS = tuple(LIMITS) if REAL else ("fp32",)
DEFAULT = PRECISIONS[-1] if not REAL else "fp16"
BACKENDS = ("tensorrt", "cuda", "rtx-ep") if REAL else ("tensorrt",)
TILE = 48 if REAL else 8
SIZES = ((180, 320), (1, 1), (97, 61), (200, 3)) if REAL else ((18, 32), (1, 1), (11, 7), (20, 3))


@pytest.fixture
def load(small_bundles):
    """Return a function that opens the shipped network, or a small one if the GPU is simulated."""

    def load(backend="tensorrt", precision=DEFAULT, scale=4, tile="auto"):
        skip_without(backend)
        model = scale if REAL else small_bundles[scale]
        return Upscaler.load(model, backend, precision, tile=tile)

    return load


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """Use an engine cache of this test only."""
    monkeypatch.setenv("HFDN_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def reference():
    """Return a function that runs the shipped network in PyTorch, on the GPU if it is real."""
    from hfdn_deploy.network import load_checkpoint

    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    device = "cuda" if REAL else "cpu"
    networks = {}

    def run(plane, scale):
        if scale not in networks:
            path = ROOT / "checkpoints" / f"hfdn_x{scale}.safetensors"
            networks[scale] = load_checkpoint(path).to(device)
        with torch.inference_mode():
            return networks[scale](torch.from_numpy(plane[None, None]).to(device))[0, 0].cpu()

    return lambda plane, scale: run(plane, scale).numpy()


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_parity_with_pytorch(reference, backend, precision, scale):
    skip_without(backend)
    with Upscaler.load(scale, backend, precision) as up:
        for size in SIZES[:3]:
            plane = luma(*size)
            departure = np.abs(up.upscale_luma(plane) - reference(plane, scale)).max()
            assert departure <= LIMITS[precision], (size, departure)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_replayed_graphs_equal_plain_execution(load, gpu, precision):
    first = luma()
    others = [first[::-1].copy(), first[:, ::-1].copy(), 1 - first]
    expected = []
    for plane in others:
        with load(precision=precision) as up:
            expected.append(up.upscale_luma(plane))
    with load(precision=precision) as up:
        plain, captured, replayed = (up.upscale_luma(first) for _ in range(3))
        assert (plain == captured).all()
        assert (plain == replayed).all()
        for plane, result in zip(others, expected, strict=True):
            assert (up.upscale_luma(plane) == result).all()
    if gpu:
        assert [kind for kind, _ in gpu.runs[3:]] == ["plain", *["graph"] * 5]


def test_interleaved_sizes_equal_plain_execution(load):
    """More sizes than are kept, each repeated, as with tiles and photographs."""
    sizes = [(luma().shape[0] // 4 + 2 * i, 20) for i in range(12)]
    with load() as up:
        expected = {size: up.upscale_luma(luma(*size)) for size in sizes}
        for turn in range(5):
            for size in sizes[: 12 - 2 * turn]:
                assert (up.upscale_luma(luma(*size)) == expected[size]).all(), size


def test_images_in_flight_do_not_mix(load):
    images = [photographs()["chelsea"][:h, :w] for h, w in ((30, 40), (20, 15), (30, 41)) * 6]
    with load() as up:
        expected = [up(image) for image in images]
        futures = [up.submit(image) for image in images]
        for future, result in zip(futures, expected, strict=True):
            assert (future.result() == result).all()


def test_models_capture_beside_each_other(load, caplog):
    """Calls of one model, which needs ever more memory, do not end captures of the other."""
    planes = [luma(8 + i, 9 + i // 2) for i in range(18)]
    expected = {}
    for scale in (4, 2):
        with load(scale=scale) as up:
            expected[scale] = [up.upscale_luma(plane) for plane in planes]
    caplog.clear()
    with load(scale=4) as one, load(scale=2) as other, ThreadPoolExecutor(4) as threads:

        def work(index):
            scale, up = ((4, one), (2, other))[index % 2]
            for plane, right in zip(planes, expected[scale], strict=True):
                for _ in range(3):
                    assert (up.upscale_luma(plane) == right).all()

        list(threads.map(work, range(4)))
    assert caplog.messages == []


def test_a_shape_outside_all_profiles_is_refused(load):
    with (
        load(tile=None) as up,
        pytest.raises(InputError, match="no profile of the engine takes 1x1025x8 pixels"),
    ):
        up.upscale_luma(luma(8, 8).repeat(129, axis=1)[:, :1025])


@pytest.mark.parametrize("shape", [(8, 8), (1, 8, 8), (1, 1, 1, 8, 8)])
def test_an_image_with_other_axes_is_refused(load, shape):
    with load() as up, pytest.raises(InputError, match=r"takes images .*height.*, not \("):
        up.backend.run(np.zeros(shape, np.float32))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_tiles_make_the_whole(load, backend, precision, scale):
    with (
        load(backend, precision, scale, tile=None) as whole,
        load(backend, precision, scale, tile=TILE) as tiled,
    ):
        for size in SIZES:
            plane = luma(*size)
            departure = np.abs(tiled.upscale_luma(plane) - whole.upscale_luma(plane)).max()
            assert departure <= TILED[precision], (size, departure)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_mean_given_to_a_tile_is_used(load, backend):
    with load(backend, "fp32", 2) as up:
        tile = luma(*(side // 2 for side in luma().shape))[None, None]
        pixels = tile.size
        whole = up.backend.run(tile)
        mean = up.backend.tiling.pooled_sums(tile, np.ones_like(tile)) / np.float32(pixels)
        assert mean.shape[0] == 1
        assert mean.shape[2:] == (1, 1)
        assert np.abs(up.backend.tiling.run_tile(tile, mean) - whole).max() <= TILED["fp32"]
        # A mean larger by 1 changes the shipped network's output by 7e-4.
        assert np.abs(up.backend.tiling.run_tile(tile, mean + 1) - whole).max() > 2.5e-4


def test_what_is_longer_than_the_profile_goes_in_tiles(load):
    plane = np.resize(luma(), (3, 1030))
    with load(scale=2) as up:
        halo = up.backend.tiling.halo
        assert up.plan((1024, 1024)).side is None
        assert up.plan(plane.shape).side == 1024 - 2 * halo
        with load(scale=2, tile=512) as other:
            departure = np.abs(up.upscale_luma(plane) - other.upscale_luma(plane)).max()
        assert departure <= TILED[DEFAULT]
    most = 1024 - 2 * halo
    with pytest.raises(InputError, match=f"runs tiles of at most {most} pixels, not {most + 1}"):
        load(scale=2, tile=most + 1)


@pytest.mark.usefixtures("own_cache")
def test_the_engines_of_tiles_are_built_with_the_first_one(load):
    def built():
        return len(list(cache_folder().glob("*/engine/*.engine")))

    with load(tile=TILE) as up:
        # An image smaller than a tile with its halo runs whole.
        up.upscale_luma(luma(TILE - 1, TILE + 1))
        assert built() == 1
        expected = up.upscale_luma(luma())
        assert built() == 3
    with load(tile=TILE) as up:
        assert (up.upscale_luma(luma()) == expected).all()
        assert built() == 3


@pytest.mark.usefixtures("own_cache")
def test_a_part_under_the_sidecar_of_the_whole_is_refused(small_bundles):
    flavour = choose_flavour("auto").name
    spec = BuildSpec(flavour, (presets(4)["photo"],), resolve_targets(flavour, ()))
    engine = cached_engine(Bundle(small_bundles[4]), "fp32", spec, "tile")
    manifest = read_sidecar(engine)
    forged = replace(manifest, part="whole", inputs=manifest.inputs[:1]).sealed()
    sidecar_path(engine).write_text(forged.to_json())
    with pytest.raises(EngineError, match=r"has the tensors .*pooled.*, which are not those"):
        Upscaler.load(engine)


def test_threads_share_the_engines_of_tiles(load):
    height, width = luma().shape
    planes = [luma(height - index, width) for index in range(6)]
    with load(tile=TILE) as up, ThreadPoolExecutor(6) as threads:
        results = list(threads.map(up.upscale_luma, planes))
        for plane, result in zip(planes, results, strict=True):
            assert (up.upscale_luma(plane) == result).all()


@pytest.mark.real_gpu
def test_a_stripped_engine_takes_its_weights_from_the_bundle():
    flavour = choose_flavour("auto").name
    options = (flavour, (presets(4)["photo"],), resolve_targets(flavour, ()))
    whole = cached_engine(pretrained(4), "fp32", BuildSpec(*options))
    stripped = cached_engine(pretrained(4), "fp32", BuildSpec(*options, strip_weights=True))
    assert stripped.stat().st_size < 0.7 * whole.stat().st_size
    with Upscaler.load(whole) as up, Upscaler.load(stripped) as light:
        assert np.abs(up.upscale_luma(luma()) - light.upscale_luma(luma())).max() <= 1e-5
