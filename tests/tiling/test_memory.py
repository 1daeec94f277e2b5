from pathlib import Path

import numpy as np
import pytest

from benchmarks.memory import measure
from hfdn_deploy import BackendError, InputError, Upscaler, tiling
from hfdn_deploy.backends import Backend, OnnxRuntimeBackend
from hfdn_deploy.bench import photographs
from hfdn_deploy.bundle import pretrained
from hfdn_deploy.tiling import WHOLE, Footprint, Plan
from tests.helpers.backends import opened
from tests.helpers.paths import ROOT

pytestmark = pytest.mark.usefixtures("every_core")


def test_auto_takes_the_fastest_tiles_that_fit(photo):
    parts = opened(("onnxruntime", "fp32"), 4).tiling
    job = Footprint(2000, 3000, parts, channels=3)
    whole = job.need(WHOLE)
    assert job.fastest(whole) == WHOLE
    # Larger tiles are not faster.
    ways = [job.fastest(whole // 2)]
    assert ways == [Plan(256, keeps=True)]
    for part in (20, 40, 80, 160):
        way = job.fastest(whole // part)
        larger = Plan(way.side + 2 * tiling.STEP, way.keeps)
        assert not way.keeps
        assert way.side == 384 or job.need(way) <= whole // part < job.need(larger)
        ways.append(way)
    sides = [way.side for way in ways[1:]]
    assert sides == sorted(sides, reverse=True)
    assert sides[-1] < sides[0]
    with pytest.raises(InputError, match=r"3000×2000 .* in tiles of 16, .* smaller image or scale"):
        job.fastest(60 * 2**20)
    with Upscaler.load(4, max_memory=80 * 2**20) as up, Upscaler.load(4) as free:
        assert 0 < up.plan(photo.shape).side < 50
        assert free.plan(photo.shape).tiles == (WHOLE,)
        reports = []
        tiled = up(photo, lambda *report: reports.append(report))
        assert len(reports) >= 4
        assert np.abs(free(photo, reports.clear).astype(int) - tiled).max() <= 1


def test_nothing_larger_than_asked_runs_in_one_go(photo):
    parts = opened(("onnxruntime", "fp32"), 4).tiling
    with Upscaler.load(4, tile=100) as fixed, Upscaler.load(4, max_memory=90 * 2**20) as small:
        assert fixed.plan((400, 400), largest=48).side == 100
        assert small.plan((400, 400), largest=48).side < 48
    with Upscaler.load(4) as up:
        edge = 48 + 2 * parts.halo
        assert up.plan((edge, edge), largest=48).tiles == (WHOLE,)
        assert up.plan((edge, edge + 1), largest=48).tiles == (Plan(48, keeps=True),)
        areas = []
        plan = up.plan(photo.shape, largest=32)
        tiled = up.stream(photo, plan, lambda done, total: areas.append(done)).whole()
        # Both passes over each tile.
        assert len(areas) == 2 * tiling.count_tiles(*photo.shape[:2], 32, parts.halo) > 2
        assert np.abs(up(photo).astype(int) - tiled).max() <= 1


def test_features_are_kept_where_that_is_less_work():
    parts = opened(("onnxruntime", "fp32"), 2).tiling
    job = Footprint(1000, 1500, parts, channels=3)
    features = job.need(Plan(16, keeps=True)) - job.need(Plan(16, keeps=False))
    # 192 channels of four bytes for every pixel, and for the few pixels around each tile.
    assert features > 1000 * 1500 * 768
    work = {}
    for budget in np.linspace(features / 8, job.need(WHOLE), 60).astype(int):
        way = job.fastest(budget)
        if way == WHOLE:
            continue
        assert job.need(way) <= budget
        halo = 2 * parts.halo
        work[int(budget)] = (1 + halo / way.side) ** 2 * (1 if way.keeps else 1.25)
        if way.keeps:
            # With very small tiles, the halo costs more than computing features twice.
            assert way.side >= 100
    assert {True, False} == {job.fastest(budget).keeps for budget in work}
    # More memory never makes it slower.
    assert list(work.values()) == sorted(work.values(), reverse=True)


@pytest.mark.slow
def test_memory_decides_whether_features_are_kept():
    backend = OnnxRuntimeBackend.open(pretrained(2), "fp32")
    image = photographs()["camera"][:160, :200]
    parts = backend.tiling
    job = Footprint(*image.shape, parts, held=4 * image.nbytes)
    need = job.need(Plan(40, keeps=True))
    heads, calls = parts.split.heads, []
    parts.split.heads = lambda *args: [calls.append(1), heads(*args)][1]
    kept, twice, free = (
        Upscaler(backend, "", tile=40, max_memory=memory) for memory in (need, need - 1, None)
    )
    results = [up(image) for up in (kept, free)]
    assert len(calls) == 2 * len(tiling.cut(*image.shape, 40, parts.halo))
    results.append(twice(image))
    assert len(calls) == 2 * len(tiling.cut(*image.shape, 40, parts.halo))
    np.testing.assert_array_equal(results[0], results[1])
    assert np.abs(results[0].astype(int) - results[2]).max() <= 1


def test_what_is_longer_than_a_backend_takes_goes_in_tiles():
    """As with an engine, whose profile has a limit and whose memory use was not measured."""
    backend = OnnxRuntimeBackend.open(pretrained(2), "fp32")
    luma = (photographs()["camera"][:101, :130] / np.float32(255)).astype(np.float32)
    with Upscaler(backend, "", tile=None) as up:
        expected = up.upscale_luma(luma)
        backend.tiling.memory, backend.tiling.largest = None, 100
        run, sizes = backend.run_session, set()

        def seen(session, lr, others=None):
            sizes.update(lr.shape[2:])
            return run(session, lr, others)

        backend.run_session = seen
        up = Upscaler(backend, "")
        assert up.plan((100, 100)).tiles == (WHOLE,)
        for shape in ((101, 7), (7, 101, 3), (101, 130)):
            assert up.plan(shape).side == 60
        assert np.abs(up.upscale_luma(luma) - expected).max() <= 1e-5
        assert max(sizes) <= 100
        assert Upscaler(backend, "", tile=None).plan((101, 130)).tiles == (WHOLE,)
        assert Upscaler(backend, "", tile=np.int64(60)).plan((9, 9)).side == 60
        with pytest.raises(InputError, match="onnxruntime runs tiles of at most 60 pixels, not 61"):
            Upscaler(backend, "", tile=61)


def test_what_cannot_be_asked_for():
    class Whole(Backend):
        name, scale = "whole", 4

        def run(self, lr):
            return lr.repeat(4, 2).repeat(4, 3)

        def close(self):
            pass

    assert Upscaler(Whole(), "")(np.full((3, 5), 9, np.uint8)).shape == (12, 20)
    with pytest.raises(BackendError, match="whole has no tiles"):
        Upscaler(Whole(), "", tile=64)
    with pytest.raises(BackendError, match="memory use of whole has not been measured"):
        Upscaler(Whole(), "", max_memory=2**30)
    for tile in (0, -3, 1.5, True, "all"):
        with pytest.raises(InputError, match="give its side"):
            Upscaler.load(4, tile=tile)
    for size in (0, -1, float("nan"), "1GiB"):
        with pytest.raises(InputError, match="give bytes"):
            Upscaler.load(4, "onnxruntime", max_memory=size)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's accounts")
@pytest.mark.parametrize(
    ("model", "backend", "precision", "size", "plan"),
    [
        # In a small run, a larger part is memory that the process has already.
        (4, "onnxruntime", "fp32", (180, 240), Plan(100, keeps=False)),
        pytest.param(
            *(2, "onnxruntime", "fp32", (300, 310), Plan(100, keeps=True)), marks=pytest.mark.slow
        ),
        (3, "openvino", "int8", (300, 310), Plan(100, keeps=True)),
        (2, "onnxruntime", "fp16", (150, 200), WHOLE),
        (3, "onnxruntime", "int8", (300, 310), Plan(100, keeps=False)),
        (4, "openvino", "int8", (180, 320), WHOLE),
        (2, "openvino", "fp32", (150, 200), WHOLE),
        # Smaller tensors would share a heap, whose gaps vary.
        pytest.param(
            *(ROOT / "checkpoints" / "hfdn_x2.safetensors", "torch", "fp32", (360, 640), WHOLE),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_model_of_memory_holds(model, backend, precision, size, plan):
    peak = measure(model, backend, precision, size, plan)
    assert peak.measured > 50 * 2**20
    assert peak.predicted == pytest.approx(peak.measured, rel=0.25)


def test_small_tiles_are_warned_of(caplog):
    caplog.set_level("WARNING")
    Upscaler.load(2, "onnxruntime", tile=16).close()
    assert not caplog.records
    Upscaler.load(2, "onnxruntime", tile=1).close()
    assert caplog.messages == [
        "tiles of 1 with a halo of 20 compute about 1681 times the pixels of an image; "
        "use tiles of 16 or more, which compute at most 12 times as many."
    ]
