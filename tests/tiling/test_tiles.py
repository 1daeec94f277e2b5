import json
import os

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfdn_deploy import BackendError, Upscaler, tiling
from hfdn_deploy.backends import TorchBackend
from hfdn_deploy.bench import photographs
from hfdn_deploy.bundle import graph_for, pretrained
from hfdn_deploy.cli import main
from hfdn_deploy.graph import pooled_tensor
from hfdn_deploy.images import read_image, write_image
from tests.helpers.backends import opened
from tests.helpers.graphs import run, with_output
from tests.helpers.networks import make_network

# A longer run: HFDN_TILING_EXAMPLES=500 HFDN_TILING_PIXELS=300000.
EXAMPLES = int(os.environ.get("HFDN_TILING_EXAMPLES", 24))
# The limit of pixels in one example, with halos, which are large for small tiles.
PIXELS = int(os.environ.get("HFDN_TILING_PIXELS", 5_000))
LEVEL = 1 / 255
KINDS = [("onnxruntime", "fp32"), ("onnxruntime", "fp16"), ("onnxruntime", "int8")]
KINDS += [("openvino", "fp32"), ("openvino", "int8")]
KINDS += [pytest.param(("torch", "fp32"), marks=pytest.mark.slow, id="torch fp32")]
TOLERANCES = {"fp32": 1e-5, "fp16": LEVEL, "int8": LEVEL}


def in_tiles(parts, luma, side, halo, split=None):
    tiles = tiling.cut(*luma.shape, side, halo)
    return np.concatenate(list(tiling.upscale(parts, luma, tiles, split=split)))


def work(height, width, side, halo=20):
    """Return the pixels in all tiles, with their halos."""
    tiles = tiling.cut(height, width, side, halo)
    return len(tiles) * np.prod(tiling.window(height, width, side, halo, halo))


@settings(deadline=None)
@given(
    st.integers(1, 300), st.integers(1, 300), st.integers(1, 300), st.integers(0, 25)
)  # fmt: skip
def test_every_pixel_is_kept_once_with_its_surroundings(height, width, side, halo):
    tiles = tiling.cut(height, width, max(side, height // 20, width // 20), halo)
    count = np.zeros((height, width), int)
    for tile in tiles:
        count[tile.kept] += 1
        for read, kept, length in zip(tile.read, tile.kept, (height, width), strict=True):
            assert 0 <= read.start <= max(kept.start - halo, 0)
            assert min(kept.stop + halo, length) <= read.stop <= length
    assert (count == 1).all()
    assert sum(tile.pixels for tile in tiles) == height * width
    # One shape for all tiles, so that what is compiled or captured is used again.
    (shape,) = {tuple(part.stop - part.start for part in tile.read) for tile in tiles}
    assert shape == tiling.window(height, width, max(side, height // 20, width // 20), halo, halo)
    assert all(length <= max(side, height // 20, width // 20) + 2 * halo for length in shape)


def test_a_little_more_than_a_tile_is_not_twice_the_work():
    # Two tiles of 296 would cover 300.
    assert work(300, 1, 256) < 1.3 * 300
    assert work(360, 640, 256) < 1.4 * 360 * 640


@st.composite
def pictures(draw):
    """A luma plane of noise or of a photograph, and a side of tiles."""
    height, width = draw(st.integers(1, 200)), draw(st.integers(1, 200))
    # If no side is within the limit, the image becomes narrower.
    sides = [side for side in range(1, 201) if work(height, width, side) <= PIXELS]
    if not sides:
        width = PIXELS // 200
        sides = [side for side in range(1, 201) if work(height, width, side) <= PIXELS] or [200]
    side = draw(st.sampled_from(sides))
    if draw(st.booleans()):
        rng = np.random.default_rng(draw(st.integers(0, 99)))
        return rng.random((height, width), np.float32), side
    top, left = draw(st.integers(0, 300)), draw(st.integers(0, 300))
    crop = photographs()["camera"][top : top + height, left : left + width]
    return (crop / np.float32(255)).astype(np.float32), side


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: " ".join(kind))
@settings(max_examples=EXAMPLES // 4, deadline=None)
@given(pictures(), st.sampled_from([2, 3, 4]))
def test_tiles_make_the_whole(kind, picture, scale):
    luma, side = picture
    backend = opened(kind, scale)
    parts = backend.tiling
    whole = tiling.upscale_whole(backend, luma[None])[0]
    for split in {None, parts.split}:
        tiled = in_tiles(parts, luma, side, parts.halo, split)
        assert np.abs(tiled - whole).max() <= TOLERANCES[kind[1]]


@settings(deadline=None)
@given(
    st.integers(1, 200), st.integers(1, 200), st.integers(8, 200), st.integers(0, 20), st.data()
)  # fmt: skip
def test_a_smaller_halo_is_what_is_counted(height, width, side, halo, data):
    around = data.draw(st.integers(0, halo))
    tiles = [tile.narrowed(halo - around) for tile in tiling.cut(height, width, side, halo)]
    shapes = [[part.stop - part.start for part in tile.read] for tile in tiles]
    for tile in tiles:
        for read, kept, length in zip(tile.read, tile.kept, (height, width), strict=True):
            assert 0 <= read.start <= max(kept.start - around, 0)
            assert min(kept.stop + around, length) <= read.stop <= length
    assert tiling.area(height, width, side, halo, around) == sum(h * w for h, w in shapes)
    assert {*map(tuple, shapes)} == {tiling.window(height, width, side, halo, around)}


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_reference_has_the_halos_of_the_graph(scale):
    reference, graph = (opened((name, "fp32"), scale).tiling for name in ("torch", "onnxruntime"))
    assert reference.halo == graph.halo
    assert reference.split.halo == graph.split.halo
    assert reference.split.memory == graph.split.memory


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_tiles_statistics_are_the_whole_pictures(precision):
    bundle = pretrained(2)
    graph = graph_for(precision, "cpu")
    model = onnx.load_model_from_string(bundle.read_model(graph))
    luma = np.random.default_rng(3).random((70, 90), np.float32)
    expected = run(with_output(model, pooled_tensor(model)), lr=luma[None, None])
    parts = opened(("onnxruntime", precision), 2).tiling
    got = tiling.pooled_mean(parts, luma, tiling.cut(70, 90, 24, parts.halo))
    assert np.abs(expected).max() > 0.1
    # Half precision rounds the mean itself.
    unit = np.spacing(np.float16(np.abs(expected).max()))
    assert np.abs(got - expected).max() <= (unit if precision == "fp16" else 1e-5)


def test_statistics_and_halo_are_needed():
    backend = opened(("onnxruntime", "fp32"), 2)
    parts = backend.tiling
    luma = (photographs()["camera"][100:180, 60:150] / np.float32(255)).astype(np.float32)
    whole = tiling.upscale_whole(backend, luma[None])[0]

    class Forgetful:
        """A tiling that gives each tile its own mean."""

        scale, pools = parts.scale, parts.pools
        pooled_sums = staticmethod(parts.pooled_sums)

        @staticmethod
        def run_tile(lr, pooled):
            return backend.run(lr)

    def error(network, halo, split=None):
        return np.abs(in_tiles(network, luma, 32, halo, split) - whole).max()

    class Blinkered:
        """A split whose halo is smaller than its heads need."""

        halo = parts.split.halo - 1
        trunk, heads = staticmethod(parts.split.trunk), staticmethod(parts.split.heads)

    assert error(parts, parts.halo) <= 1e-5
    assert error(parts, 8) > 1e-5
    assert error(parts, parts.halo, parts.split) <= 1e-5
    assert error(parts, parts.halo, Blinkered) > 1e-5
    assert error(Forgetful, parts.halo) > 1e-4


def test_networks_that_do_not_pool(tmp_path):
    pytest.importorskip("torch", exc_type=ModuleNotFoundError)
    from hfdn_deploy.network import save_checkpoint

    path = tmp_path / "a.safetensors"
    save_checkpoint(path, make_network(2, attention="none", dense="plain", supervision="d"))
    luma = np.random.default_rng(0).random((50, 64), np.float32)
    backend = TorchBackend(path)
    parts = backend.tiling
    assert not parts.pools
    whole = tiling.upscale_whole(backend, luma[None])[0]
    assert np.abs(whole - in_tiles(parts, luma, 9, parts.halo)).max() <= 1e-5


@pytest.mark.parametrize("ensemble", [False, True])
def test_ensemble_and_colour_in_tiles(photo, ensemble):
    photo = photo[:45, :60]
    with Upscaler.load(2, ensemble=ensemble, tile=None) as up:
        whole = up(photo)
    reports = []
    with Upscaler.load(2, ensemble=ensemble, tile=7) as up:
        tiled = up(photo, lambda *report: reports.append(report))
    # Rounding to 8 bits may differ by one level.
    assert np.abs(whole.astype(int) - tiled).max() <= 1
    assert (whole != tiled).mean() < 1e-3
    total = 45 * 60 * 2 * (8 if ensemble else 1)
    assert reports[-1] == (total, total)
    assert [done for done, _ in reports] == sorted({done for done, _ in reports})


def test_a_closed_upscaler_ends_its_streams(photo):
    with Upscaler.load(2, "onnxruntime", "int8", tile=16) as up:
        stream = up.stream(photo)
        next(stream.bands)
    with pytest.raises(BackendError, match="closed"):
        next(stream.bands)


def test_command_line(tmp_path, photo, capsys):
    write_image(tmp_path / "a.png", photo)
    images = []
    for options in (["--tile", "none"], ["--tile", "24"], ["--max-memory", "0.08GiB"]):
        out = tmp_path / "out.png"
        arguments = ["upscale", str(tmp_path / "a.png"), "-o", str(out), "--scale", "4", "--json"]
        arguments.append("--force")
        assert main([*arguments, *options]) == 0
        found = json.loads(capsys.readouterr().out)["images"][0]["tile"]
        assert (found is None) == ("none" in options)
        images.append(read_image(out).astype(int))
    assert all(np.abs(image - images[0]).max() <= 1 for image in images)
    refused = (
        ["--tile", "0"], ["--tile", "x"], ["--max-memory", "0KB"], ["--max-memory", "lots"]
    )  # fmt: skip
    for options in refused:
        with pytest.raises(SystemExit):
            main([*arguments, *options])
    assert main([*arguments, "--max-memory", "1MiB"]) == 2
    assert "may be used" in capsys.readouterr().err
