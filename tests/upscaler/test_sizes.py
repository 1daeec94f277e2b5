"""Target sizes: the networks that run, and their results."""

import numpy as np
import pytest

from hfdn_deploy import BackendError, InputError, Upscaler
from hfdn_deploy.images import imresize, write_image
from hfdn_deploy.images import open_image as open_rows
from hfdn_deploy.options import ModelOptions, TargetSize
from hfdn_deploy.tiling import WHOLE, Footprint
from hfdn_deploy.upscaler import ImagePlan, networks_for


@pytest.fixture(scope="module")
def all_scales():
    with Upscaler.open(
        ModelOptions(
            target=TargetSize(width=60, height=60), backend="onnxruntime", precision="int8"
        )
    ) as up:
        yield up


@pytest.fixture
def four(bundle):
    with Upscaler.load(bundle, "onnxruntime") as up:
        yield up


@pytest.mark.parametrize(
    ("factor", "scales"),
    [
        (0.5, ()), (1, ()), (1.01, (2,)), (2, (2,)), (2.01, (3,)), (3.5, (4,)), (4, (4,)),
        (4.1, (3, 2)), (6, (3, 2)), (6.5, (4, 2)), (8, (4, 2)), (8.5, (3, 3)), (10, (4, 3)),
        (12.5, (4, 4)), (16, (4, 4)),
    ],
)  # fmt: skip
def test_the_next_larger_networks(factor, scales):
    assert networks_for(factor, (2, 3, 4)) == scales


def test_a_network_alone_runs_twice_at_most():
    assert [networks_for(factor, (3,)) for factor in (2, 3, 3.1, 9)] == [(3,), (3,), (3, 3), (3, 3)]
    with pytest.raises(InputError, match=r"reach at most ×9, not ×9\.1; choose a smaller"):
        networks_for(9.1, (3,))
    with pytest.raises(InputError, match="reach at most ×16, not ×17"):
        Upscaler.load(17)


@pytest.mark.parametrize(
    ("image", "size", "told"),
    [
        ((360, 640), (1080, 1920), "640×360 → 1920×1080: ×3 network"),
        ((320, 480), (1280, 1920), "480×320 → 1920×1280: ×4 network"),
        (
            (270, 480), (900, 1600),
            "480×270 → 1600×900: ×4 network, then resized from 1920×1080",
        ),
        ((100, 160), (800, 1280), "160×100 → 1280×800: ×4 network, then ×2 network"),
        (
            (100, 160), (500, 800),
            "160×100 → 800×500: ×3 network, then ×2 network, then resized from 960×600",
        ),
        ((1080, 1920), (720, 1280), "1920×1080 → 1280×720: only resized"),
    ],
)  # fmt: skip
def test_the_plan_is_said_in_one_line(all_scales, caplog, image, size, told):
    caplog.set_level("INFO", "hfdn_deploy")
    plan = all_scales.plan(image, target=TargetSize(width=size[1], height=size[0]))
    assert (plan.size, str(plan)) == (size, told)
    assert [message for message in caplog.messages if "→" in message] == [told]


def test_nothing_is_said_of_a_plain_scale(four, caplog):
    caplog.set_level("INFO", "hfdn_deploy")
    plan = four.plan((5, 6))
    assert plan == ImagePlan((5, 6), (20, 24), (4,), (WHOLE,))
    assert (four.scale, four.target, caplog.messages) == (4, TargetSize(scale=4), [])


@pytest.mark.parametrize("channels", [None, 3])
@pytest.mark.parametrize("scale", [1.5, 3, 3.5])
def test_a_size_is_the_resized_result_of_the_network(four, photo, scale, channels):
    image = (photo[:24, :32] / np.float32(255)).astype(np.float32)
    image = image if channels else image[..., 0]
    found = four(image, scale=scale)
    expected = imresize(four(image), scale / 4).clip(0, 1)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-6
    np.testing.assert_array_equal(four(image, size=found.shape[1::-1]), found)
    np.testing.assert_array_equal(four(image, size=(found.shape[1], None)), found)


def test_two_networks_hand_on_floats(four, photo):
    luma = (photo[:12, :10, 0] / np.float32(255)).astype(np.float32)
    first = four.upscale_luma(luma).clip(0, 1)
    expected = four.upscale_luma(first)
    plan = four.plan(luma.shape, np.float32, target=TargetSize(scale=16))
    np.testing.assert_array_equal(four.upscale_luma(luma, plan), expected)
    np.testing.assert_allclose(four(luma, scale=16), expected.clip(0, 1), atol=1e-6)
    # With 8 bits in between, the result would differ.
    rounded = four.upscale_luma((first * 255).round().astype(np.float32) / 255)
    assert np.abs(rounded - expected).max() > 1e-3


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_kind_keeps_its_kind_and_is_rounded_once(four, photo, dtype, channels):
    image = np.dstack([photo, photo[..., :1]])[:20, :22, -channels:]
    white = {"uint8": 255, "uint16": 65535}[dtype]
    image = (image.astype(np.uint16) * (white // 255)).astype(dtype)
    found = four(image, size=(70, None))
    exact = four((image / np.float32(white)).astype(np.float32), size=(70, None))
    assert (found.dtype, found.shape) == (dtype, (64, 70, channels))
    assert np.abs(found - exact * white).max() <= 0.501 + white * 1e-6


@pytest.mark.parametrize(("scale", "tile"), [(1.7, 16), (3.5, 16), (4.5, 50)])
def test_tiles_make_what_the_whole_makes(bundle, photo, scale, tile, monkeypatch):
    # Bands of a few rows, so that the resize crosses the edges of bands.
    monkeypatch.setattr("hfdn_deploy.images.colour.BAND_PIXELS", 5000)
    image = np.dstack([photo, np.maximum(photo[..., 1], 30)])[:, :70]
    image = image if scale < 4 else image[:26, :8]
    with (
        Upscaler.load(bundle, "onnxruntime", tile=tile) as tiled,
        Upscaler.load(bundle, "onnxruntime", tile=None) as whole,
    ):
        counted = []
        found = tiled(image, lambda *counts: counted.append(counts), scale=scale)
        assert np.abs(found.astype(int) - whole(image, scale=scale)).max() <= 1
        done, total = zip(*counted, strict=True)
        assert list(done) == sorted(done)
        assert {done[-1]} == set(total)


def test_rows_of_a_file_become_rows_of_the_result(four, photo, tmp_path):
    write_image(tmp_path / "a.png", photo)
    plan = four.plan(photo.shape, target=TargetSize(height=200))
    banded = four.stream(open_rows(tmp_path / "a.png"), plan)
    bands = list(banded.rows())
    assert banded.shape == (200, 277, 3)
    assert max(map(len, bands)) <= 32
    np.testing.assert_array_equal(np.concatenate(bands), four(photo, size=(None, 200)))


@pytest.mark.parametrize("channels", [None, 3, 4])
def test_what_is_large_enough_is_only_resized(four, photo, channels, monkeypatch):
    monkeypatch.setattr(four.backend, "run", None)
    monkeypatch.setattr("hfdn_deploy.images.colour.BAND_PIXELS", 1000)
    image = np.dstack([photo, np.full_like(photo[..., :1], 255)])
    image = image[:, :82, :channels] if channels else image[:, :82, 0]
    expected = imresize(image, 0.5).clip(0, 255).round()
    found = four(image, size=(41, 30))
    assert found.dtype == np.uint8
    assert np.abs(found - expected).max() <= 1
    np.testing.assert_array_equal(four(image, size=image.shape[1::-1]), image)


def test_networks_are_opened_when_they_are_needed(photo, caplog):
    caplog.set_level("INFO", "hfdn_deploy")

    def opened():
        return sum(message.startswith("backend:") for message in caplog.messages)

    with Upscaler.load(None, "onnxruntime", "int8", size=(60, None)) as up:
        assert (opened(), up.target) == (0, TargetSize(width=60))
        assert up(photo[:12, :20]).shape == (36, 60, 3)
        assert up(photo[:9, :20]).shape == (27, 60, 3)
        assert opened() == 1
        assert up(photo[:10, :15]).shape == (40, 60, 3)
        assert (opened(), up.backend.scale) == (2, 3)
        assert up(photo).shape == (43, 60, 3)
        assert opened() == 2
        assert up.submit(photo[:10, :15], size=(29, None)).result().shape == (19, 29, 3)
        assert opened() == 3
    for image in (photo, photo[:10, :15]):
        with pytest.raises(BackendError, match="is closed"):
            up(image)


def test_a_factor_that_no_network_has(photo, caplog):
    caplog.set_level("INFO", "hfdn_deploy")
    with Upscaler.load(8, "onnxruntime", "int8") as up:
        assert caplog.messages == [f"backend: {up.backend.name}"] * 2
        assert (up.scale, up(photo[:5, :6]).shape) == (8, (40, 48, 3))
    with Upscaler.load(3.5, "onnxruntime", "int8") as up:
        assert (up.scale, up(photo[:6, :8]).shape) == (4, (21, 28, 3))
        assert up.backend.scale == 4
    with pytest.raises(InputError, match="either a scale or pixels"):
        Upscaler.load(3.5, size=(5, 6))


def test_a_batch_comes_to_its_size(four, photo, monkeypatch):
    images = [photo[:9, :11], photo[9:18, :11], photo[:9, :11, 0]]
    run, numbers = four.backend.run, []
    monkeypatch.setattr(four.backend, "run", lambda lr: numbers.append(len(lr)) or run(lr))
    for width, expected in ((40, [3]), (50, [1] * 6)):
        numbers.clear()
        monkeypatch.setattr(four, "target", TargetSize(width=width))
        found = four.batch(images)
        assert numbers == expected
        for image, big in zip(images, found, strict=True):
            assert np.abs(big.astype(int) - four(image)).max() <= 1


def test_memory_is_counted_for_all_steps(four):
    """A resize needs more than the network alone; between two networks, luma is in memory."""
    whole = Footprint(60, 80, four.backend.tiling, channels=3).need(WHOLE)
    up = Upscaler(four.backend, "", max_memory=whole)
    assert up.plan((60, 80, 3)).tiles == (WHOLE,)
    assert up.plan((60, 80, 3), target=TargetSize(scale=3.9)).side
    assert up.plan((60, 80, 3), target=TargetSize(scale=16)).tiles[1].side
    up = Upscaler(four.backend, "", max_memory=200 * 2**20)
    assert up.plan((1200, 1600, 3)).side
    with pytest.raises(InputError, match=r"6400×4800 pixels at scale 4 need .* GiB may be used"):
        up.plan((1200, 1600, 3), target=TargetSize(scale=16))
    with pytest.raises(InputError, match=r"1600×1200 pixels at scale 4 need .* GiB may be used"):
        up.plan((1200, 1600, 3), np.float32, target=TargetSize(scale=3.5))


def test_the_larger_network_loses_nothing_to_the_nearest(photo):
    """×3 by way of ×4 is as close to the original as ×3 itself, within half a decibel."""
    small = imresize(photo / 255, 1 / 3).clip(0, 1).astype(np.float32)
    errors = {}
    for scale in (3, 4):
        with Upscaler.load(scale) as up:
            big = up(small, size=(84, 60))[:60, :83]
        errors[scale] = np.mean((big * 255 - photo) ** 2)
    assert 10 * np.log10(errors[4] / errors[3]) < 0.5


def test_what_is_submitted_ends_when_all_is_closed(four, photo):
    """As with a single network, waiting images are refused."""
    futures = [four.submit(photo, scale=16) for _ in range(4)]
    four.close()
    errors = [future.exception() for future in futures]
    assert any(isinstance(error, BackendError) for error in errors)
    with pytest.raises(BackendError, match="is closed"):
        four.submit(photo)
