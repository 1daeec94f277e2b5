import json

import numpy as np
import pytest

from benchmarks import baseline, sessions, startup
from benchmarks.cli import main
from benchmarks.pictures import side_by_side
from benchmarks.quality import bicubic, markdown, network, picture, score, upscale_set
from hfdn_deploy import Upscaler
from hfdn_deploy.bench import crop_to_multiple, luma8, photographs, psnr, ssim, to_levels
from hfdn_deploy.images import imresize, read_image, write_image
from tests.helpers.commands import misused
from tests.helpers.paths import SHARED


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("latency --size 0 0", "argument --size: '0' is not a whole number above 0"),
        ("latency --scale 5", "argument --scale: invalid choice: 5"),
        ("tiling --side -1", "argument --side: '-1' is not a whole number above 0"),
    ],
)
def test_arguments_out_of_range(capsys, command, words):
    assert words in misused(capsys, command.replace(" -1", "=-1").split(), main)


def test_quality_follows_the_protocol(tmp_path, photo, bundle, capsys):
    (tmp_path / "Tiny").mkdir()
    write_image(tmp_path / "Tiny" / "a.png", photo)
    arguments = ["--data", str(tmp_path / "Tiny"), "--bundle", str(bundle)]
    assert main(["quality", *arguments, "--ensemble", "--json"]) == 0
    by_method = {row["method"]: row for row in json.loads(capsys.readouterr().out)}
    hr = crop_to_multiple(luma8(photo), 4)
    lr = imresize(hr, 0.25)
    with Upscaler.load(bundle) as up:
        sr = up.upscale_luma((lr / 255).astype(np.float32)) * 255
    with Upscaler.load(bundle, ensemble=True) as up:
        plus = up.upscale_luma((lr / 255).astype(np.float32)) * 255
    for method, image in [("bicubic", imresize(lr, 4)), ("HFDN", sr), ("HFDN+", plus)]:
        row = by_method[method]
        assert row["psnr"] == pytest.approx(psnr(to_levels(image), hr, 4))
        assert row["ssim"] == pytest.approx(ssim(to_levels(image), hr, 4))
        assert row["images"] == {"a.png": [row["psnr"], row["ssim"]]}
    assert main(["quality", *arguments]) == 0
    printed = capsys.readouterr().out
    assert f"| Tiny | ×4 | HFDN | {by_method['HFDN']['psnr']:.2f} |" in printed
    assert "×4: 760,127 parameters (paper: 760.1k), 178.52G MACCs" in printed


def test_the_shipped_network_beats_bicubic():
    images = {"camera": photographs()["camera"]}
    with Upscaler.load(4) as up:
        outputs = [upscale_set(images, 4, run) for run in (network(up), bicubic(4))]
    ours, theirs = (score("photographs", 4, "", images, output).psnr for output in outputs)
    assert ours > theirs + 1


BARS = {2: 37.5, 3: 33.7, 4: 31.5}
BICUBIC = {2: 33.66, 3: 30.39, 4: 28.42}


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="the evaluation images are missing")
def test_the_shipped_networks_reach_their_bars_in_fp32_and_int8(capsys, monkeypatch):
    every = baseline.int8_graphs

    def some(bundle):
        """Compare with plain quantisation, which takes ten seconds a scale, at one scale only."""
        if bundle.manifest.scale == 4:
            return every(bundle)
        return {"HFDN int8 for TensorRT": bundle.read_model("int8")}

    monkeypatch.setattr(baseline, "int8_graphs", some)
    data = ["--data", str(SHARED / "eval" / "Set5")]
    assert main(["quality", *data, "--precision", "fp32", "int8", "--json"]) == 0
    scores = {(r["scale"], r["method"]): r["psnr"] for r in json.loads(capsys.readouterr().out)}
    for scale, bar in BARS.items():
        full = scores[scale, "HFDN"]
        assert scores[scale, "bicubic"] == pytest.approx(BICUBIC[scale], abs=0.01)
        assert full >= bar
        for dialect in ("", " for TensorRT"):
            ours = scores[scale, f"HFDN int8{dialect}"]
            assert full - 0.05 <= ours
            if scale == 4:
                assert ours > scores[scale, f"quantize_static{dialect}"] + 0.05


def test_sessions_are_measured_against_the_options_as_set(monkeypatch, capsys):
    monkeypatch.setattr(sessions, "SIZE", (16, 24))
    assert main(["sessions", "--rounds", "3", "--precision", "int8"]) == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    assert len(rows) == len(sessions.variants())
    assert rows[0].endswith("| 1.000 (1.000–1.000) |")
    assert all(row.startswith("| int8 | ") and " ms " in row for row in rows)


def test_a_start_is_measured_in_parts(tmp_path):
    seconds = startup.start_seconds(tmp_path, 2, "openvino", "int8", True)
    assert len(seconds) == len(startup.COLUMNS)
    assert min(seconds) > 0
    assert read_image(tmp_path / "b.png").shape == (64, 64, 3)
    assert list((tmp_path / "cache" / "engines" / "openvino").glob("*.blob"))


def test_table_names_the_paper_and_incomplete_sets(photo):
    images = {"baby": luma8(photo)}
    outputs = upscale_set(images, 3, bicubic(3))
    table = markdown([score("Set5", 3, m, images, outputs) for m in ("bicubic", "HFDN")])
    assert table.count("(incomplete: 1 of 5)") == 2
    assert table.splitlines()[-1].endswith("| 34.21 |")
    assert table.count("34.21") == 1


def test_picture_shows_where_methods_differ_most():
    rng = np.random.default_rng(0)
    images = {k: rng.integers(0, 256, (200, 220), np.uint8) for k in "ab"}
    same = {k: image.copy() for k, image in images.items()}
    other = {k: image.copy() for k, image in images.items()}
    other["b"][100:196, 64:160] ^= 64
    name, row = picture(images, 4, {"bicubic": same, "HFDN": other})
    assert name == "b"
    panel = row[8 : 8 + 3 * 96 : 3, -3 * 96 - 8 : -8 : 3, 0]
    np.testing.assert_array_equal(panel, images["b"][100:196, 64:160])


def test_side_by_side_shows_all_at_one_size(photo):
    small, large = photo[:10, :12], photo[:40, :48]
    row = side_by_side({"a": small, "b": large}, zoom=2)
    assert row.shape == (80 + 48, 2 * (96 + 16), 3)
    np.testing.assert_array_equal(row[8:88:8, 8:104:8], small)
    np.testing.assert_array_equal(row[8:88:2, 120:216:2], large)


def test_demo_writes_table_and_picture(tmp_path, bundle, capsys):
    picture = tmp_path / "demo.png"
    assert main(["demo", "--bundle", str(bundle), "--picture", str(picture)]) == 0
    assert "| chelsea | 112x75 | 448x300 |" in capsys.readouterr().out
    assert read_image(picture).shape[1] > 4 * 3 * 100
