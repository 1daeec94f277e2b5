from pathlib import Path

import numpy as np
import pytest

from benchmarks.memory import measure
from hfdn_deploy import BackendError, InputError, Upscaler, tiling
from hfdn_deploy.backends import OnnxRuntimeBackend
from hfdn_deploy.bench import photographs
from hfdn_deploy.bundle import pretrained
from hfdn_deploy.tiling import Footprint, Tiling
from tests.helpers.backends import opened
from tests.helpers.paths import ROOT


def test_auto_takes_the_fastest_tiles_that_fit(photo):
    backend = opened(("onnxruntime", "fp32"), 4)
    job = Footprint(2000, 3000, backend, channels=3)
    whole = job.need(None)
    assert job.fastest(whole) is None
    # Beyond this side tiles are no faster.
    ways = [job.fastest(whole // 2)]
    assert ways == [Tiling(256, keeps=True)]
    for part in (20, 40, 80, 160):
        way = job.fastest(whole // part)
        larger = Tiling(way.side + 2 * tiling.STEP, way.keeps)
        assert not way.keeps
        assert way.side == 384 or job.need(way) <= whole // part < job.need(larger)
        ways.append(way)
    sides = [way.side for way in ways[1:]]
    assert sides == sorted(sides, reverse=True)
    assert sides[-1] < sides[0]
    with pytest.raises(InputError, match=r"3000×2000 .* in tiles of 16, .* smaller image or scale"):
        job.fastest(100 * 2**20)
    with Upscaler.load(4, max_memory=80 * 2**20) as up, Upscaler.load(4) as free:
        assert 0 < up.tile_for(photo.shape) < 50
        assert free.tile_for(photo.shape) is None
        reports = []
        tiled = up(photo, lambda *report: reports.append(report))
        assert len(reports) >= 4
        assert np.abs(free(photo, reports.clear).astype(int) - tiled).max() <= 1


def test_features_are_kept_where_that_is_less_work():
    backend = opened(("onnxruntime", "fp32"), 2)
    job = Footprint(1000, 1500, backend, channels=3)
    features = job.need(Tiling(16, keeps=True)) - job.need(Tiling(16, keeps=False))
    # 192 channels in four bytes of every pixel, and of the few around each tile.
    assert features > 1000 * 1500 * 768
    work = {}
    for budget in np.linspace(features / 8, job.need(None), 60).astype(int):
        way = job.fastest(budget)
        if way is None:
            continue
        assert job.need(way) <= budget
        halo = 2 * backend.halo
        work[int(budget)] = (1 + halo / way.side) ** 2 * (1 if way.keeps else 1.25)
        if way.keeps:
            # Tiles so small that their halo costs more than the second time are not worth it.
            assert way.side >= 100
    assert {True, False} == {job.fastest(budget).keeps for budget in work}
    # More memory never makes it slower.
    assert list(work.values()) == sorted(work.values(), reverse=True)


@pytest.mark.slow
def test_memory_decides_whether_features_are_kept():
    backend = OnnxRuntimeBackend(
        pretrained(2).read_model("fp32"), pretrained(2).entry("fp32"), 2, "onnxruntime"
    )
    image = photographs()["camera"][:160, :200]
    job = Footprint(*image.shape, backend, held=4 * image.nbytes)
    need = job.need(Tiling(40, keeps=True))
    heads, calls = backend.split.heads, []
    backend.split.heads = lambda *args: [calls.append(1), heads(*args)][1]
    kept, twice, free = (
        Upscaler(backend, "", tile=40, max_memory=memory) for memory in (need, need - 1, None)
    )
    results = [up(image) for up in (kept, free)]
    assert len(calls) == 2 * len(tiling.plan(*image.shape, 40, backend.halo))
    results.append(twice(image))
    assert len(calls) == 2 * len(tiling.plan(*image.shape, 40, backend.halo))
    np.testing.assert_array_equal(results[0], results[1])
    assert np.abs(results[0].astype(int) - results[2]).max() <= 1


def test_what_is_longer_than_a_backend_takes_goes_in_tiles():
    """As with an engine, whose profile ends somewhere and whose memory nobody measured."""
    backend = OnnxRuntimeBackend(
        pretrained(2).read_model("fp32"), pretrained(2).entry("fp32"), 2, "onnxruntime"
    )
    luma = (photographs()["camera"][:101, :130] / np.float32(255)).astype(np.float32)
    with Upscaler(backend, "", tile=None) as up:
        expected = up.upscale_luma(luma)
        backend.memory, backend.largest = None, 100
        run, sizes = backend.run_session, set()

        def seen(session, lr, others=None):
            sizes.update(lr.shape[2:])
            return run(session, lr, others)

        backend.run_session = seen
        up = Upscaler(backend, "")
        assert up.tile_for((100, 100)) is None
        for shape in ((101, 7), (7, 101, 3), (101, 130)):
            assert up.tile_for(shape) == 60
        assert np.abs(up.upscale_luma(luma) - expected).max() <= 1e-5
        assert max(sizes) <= 100
        assert Upscaler(backend, "", tile=None).tile_for((101, 130)) is None
        assert Upscaler(backend, "", tile=np.int64(60)).tile_for((9, 9)) == 60
        with pytest.raises(InputError, match="onnxruntime runs tiles of at most 60 pixels, not 61"):
            Upscaler(backend, "", tile=61)


def test_what_cannot_be_asked_for():
    class Whole:
        name, scale, precision, concurrency = "whole", 4, "fp32", 1

        def run(self, lr):
            return lr.repeat(4, 2).repeat(4, 3)

        def close(self):
            pass

    assert Upscaler(Whole(), "")(np.full((3, 5), 9, np.uint8)).shape == (12, 20)
    with pytest.raises(BackendError, match="whole runs no tiles"):
        Upscaler(Whole(), "", tile=64)
    with pytest.raises(BackendError, match="nobody measured how much memory whole takes"):
        Upscaler(Whole(), "", max_memory=2**30)
    for tile in (0, -3, 1.5, True, "all"):
        with pytest.raises(InputError, match="give its side"):
            Upscaler.load(4, tile=tile)
    for size in (0, -1, float("nan"), "1GiB"):
        with pytest.raises(InputError, match="give bytes"):
            Upscaler.load(4, "onnxruntime", max_memory=size)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's accounts")
@pytest.mark.parametrize(
    ("model", "backend", "precision", "size", "way"),
    [
        (4, "onnxruntime", "fp32", (120, 150), Tiling(64, keeps=False)),
        pytest.param(
            *(2, "onnxruntime", "fp32", (300, 310), Tiling(100, keeps=True)), marks=pytest.mark.slow
        ),
        (3, "openvino", "int8", (300, 310), Tiling(100, keeps=True)),
        (2, "onnxruntime", "fp16", (150, 200), None),
        (3, "onnxruntime", "int8", (150, 180), Tiling(80, keeps=False)),
        (4, "openvino", "int8", (150, 200), None),
        (2, "openvino", "fp32", (150, 200), None),
        # Smaller tensors would share a heap, whose gaps are a matter of luck.
        pytest.param(
            *(ROOT / "checkpoints" / "hfdn_x2.safetensors", "torch", "fp32", (360, 640), None),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_model_of_memory_holds(model, backend, precision, size, way):
    peak = measure(model, backend, precision, size, way)
    assert peak.measured > 50 * 2**20
    assert peak.predicted == pytest.approx(peak.measured, rel=0.25)
