"""`python -m benchmarks quality`, the paper's figures, and networks that users give."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper

from benchmarks import baseline, paper
from benchmarks.cli import main
from benchmarks.given import Given
from benchmarks.pictures import picture
from benchmarks.quality import Score, bicubic, markdown, network, score, upscale_set
from benchmarks.record import RECORD, recorded, weights_of
from hfdn_deploy import Upscaler
from hfdn_deploy.bench import crop_to_multiple, luma8, photographs, psnr, ssim, to_levels
from hfdn_deploy.bundle import Bundle, pretrained, pretrained_scales
from hfdn_deploy.errors import InputError
from hfdn_deploy.graph import tiny_model
from hfdn_deploy.images import imresize, write_image
from tests.helpers.commands import misused
from tests.helpers.paths import ROOT, SHARED


@pytest.fixture
def tiny(tmp_path, photo):
    """A set of one image."""
    write_image(tmp_path / "Tiny" / "a.png", photo)
    return tmp_path / "Tiny"


def test_quality_follows_the_protocol(tiny, photo, bundle, capsys):
    arguments = ["--data", str(tiny), "--bundle", str(bundle)]
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
    weights = Bundle(bundle).manifest.checkpoint_sha256[:12]
    assert [by_method[method]["weights"] for method in ("bicubic", "HFDN+")] == ["", weights]
    assert main(["quality", *arguments]) == 0
    printed = capsys.readouterr().out
    shown = f"{by_method['HFDN']['psnr']:.2f} | {by_method['HFDN']['ssim']:.4f}"
    assert f"| Tiny | ×4 | HFDN | 760.1k | 178.52G | {shown} |" in printed
    assert "| ×4 | HFDN | 760.1k | 178.51G | 31.86 / 0.8920 | 28.26 / 0.7778 |" in printed
    assert "×2" not in printed
    assert printed.endswith(f"Weights (SHA-256 of the checkpoint): ×4 {weights}\n")


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


def test_the_papers_table():
    rows = paper.published()
    assert [sum(row.scale == scale for row in rows) for scale in (2, 3, 4)] == [10, 9, 9]
    for row in rows:
        for decibels, similarity in row.scores.values():
            assert 24 < float(decibels) < 39
            assert 0.7 < float(similarity) < 1
    # The authors' conclusion: HFDN+ is the best on every set and scale.
    for scale in (2, 3, 4):
        for name in paper.SET_SIZES:
            best = max((r for r in rows if r.scale == scale), key=lambda r: r.scores[name])
            assert best.method == "HFDN+"


def test_one_table_is_sorted_and_says_whose_figures_are_whose():
    ours = Score("Set5", 3, "HFDN", 34.1, 0.92, {"a": (34.1, 0.92)}, "abc", "823.2k", "248.21G")
    other = Score("Tiny", 3, "HFDN", 20, 0.5, {"a": (20, 0.5)}, "abc", "823.2k", "248.21G")
    lines = markdown([other, ours], peers=True).splitlines()[2:]
    assert lines[0] == "| Tiny | ×3 | HFDN | 823.2k | 248.21G | 20.00 | 0.5000 |"
    assert all(line.startswith("| Set5 (incomplete: 1 of 5) | ×3 | ") for line in lines[1:])
    cells = [line.split(" | ") for line in lines[1:]]
    assert [row[2] for row in cells if not row[2].endswith(" (paper)")] == ["HFDN"]
    assert len(cells) == 10
    values = [float(row[5]) for row in cells]
    assert values == sorted(values)
    assert [row[2] for row in cells[-3:]] == ["TSCN (paper)", "HFDN (paper)", "HFDN+ (paper)"]


def test_what_is_recorded_is_of_the_shipped_weights_and_in_the_pages(capsys):
    """After new weights: training/README.md has the commands that write the pages anew."""

    def printed(*arguments):
        assert main(["quality", "--recorded", str(RECORD), "--ensemble", *arguments]) == 0
        return capsys.readouterr().out

    assert printed("--peers") in (ROOT / "docs" / "results" / "quality.md").read_text()
    weights = weights_of(map(pretrained, pretrained_scales()))
    assert f"\n{weights}\n" in (ROOT / "docs" / "explanation" / "int8.md").read_text()
    readme = (ROOT / "README.md").read_text().replace("\n", " ")
    for scale in pretrained_scales():
        manifest = pretrained(scale).manifest
        decibels = [recorded(manifest, name, "fp32") for name in ("Set5", "Set14")]
        assert f"×{scale} {decibels[0]:.2f} / {decibels[1]:.2f} dB" in readme
        assert f"×{scale} {manifest.weights}" in readme
        card = (ROOT / "checkpoints" / f"hfdn_x{scale}.md").read_text()
        assert card.endswith(printed("--peers", "--scale", str(scale)))
        report = (ROOT / "docs" / "results" / "int8" / f"hfdn_x{scale}.md").read_text()
        assert manifest.checkpoint_sha256 in report
        int8 = recorded(manifest, "Set5", "int8")
        assert 0 < abs(int8 - decibels[0]) < 0.05
        assert "int8" not in printed("--scale", str(scale))
        assert f" | {int8:.2f} | " in printed("--scale", str(scale), "--precision", "int8")
    changed = replace(manifest, checkpoint_sha256="0" * 64)
    assert recorded(changed, "Set5", "fp32") is None


def test_a_record_that_does_not_have_what_is_asked(tmp_path, capsys):
    record = tmp_path / "quality.json"
    record.write_text(RECORD.read_text().replace(pretrained(3).manifest.weights, "0" * 12))
    command = ["quality", "--recorded", str(record)]
    weights = pretrained(3).manifest.weights
    for arguments, reason in (
        (["--scale", "2", "3"], f"has no scores of ×3 {weights}"),
        (["--scale", "2", "--precision", "bf16"], "has no scores of ×2"),
        (["--scale", "2", "--pictures", str(tmp_path / "p")], "--pictures have to measure"),
    ):
        assert main([*command, *arguments]) == 2
        assert reason in capsys.readouterr().err
    record.write_text("[1]")
    assert main(command) == 2
    assert "quality.json cannot be read" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["quality.json"]


def test_a_precision_that_failed_its_gates_is_left_out(tiny, caplog, capsys, tmp_path):
    command = ["quality", "--data", str(tiny), "--scale", "2", "--pictures", str(tmp_path / "p")]
    assert main([*command, "--precision", "bf16", "fp32"]) == 0
    assert "left out ×2 in bf16: bf16, derived from" in caplog.text
    printed = capsys.readouterr().out
    assert "| HFDN |" in printed
    assert "HFDN bf16" not in printed
    assert main([*command, "--precision", "bf16"]) == 3
    assert "no network was measured, see above" in capsys.readouterr().err


def test_picture_shows_where_methods_differ_most():
    rng = np.random.default_rng(0)
    images = {k: rng.integers(0, 256, (200, 220), np.uint8) for k in "ab"}
    same, peer, other = ({k: image.copy() for k, image in images.items()} for _ in range(3))
    other["b"][100:196, 64:160] ^= 64
    peer["a"] ^= 128
    name, row = picture(images, 4, {"bicubic": same, "peer": peer, "HFDN": other})
    assert name == "b"
    panel = row[8 : 8 + 3 * 96 : 3, -3 * 96 - 8 : -8 : 3, 0]
    np.testing.assert_array_equal(panel, images["b"][100:196, 64:160])


def save_identity(path, channels, output=None):
    """Write a network that takes the upscaled image and returns it."""
    shape = (1, channels, "h", "w")
    node = helper.make_node("Identity", ["x"], ["y"])
    model = tiny_model([node], {"x": (np.float32, shape)}, {"y": (np.float32, shape)})
    onnx.save(model, path)
    return path


def test_given_networks_stand_between_bicubic_and_hfdn(tiny, bundle, tmp_path, capsys):
    rgb = save_identity(tmp_path / "rgb.onnx", 3)
    grey = save_identity(tmp_path / "grey.onnx", 1)
    peers = {"Luma": bundle / "fp32.onnx", "RGB": rgb, "Grey": grey}
    options = [f"--peer={name}={path}" for name, path in peers.items()]
    arguments = ["--data", str(tiny), "--bundle", str(bundle), "--pictures", str(tmp_path / "p")]
    assert main(["quality", *arguments, *options, "--json"]) == 0
    rows = {row["method"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == ["bicubic", "Luma", "RGB", "Grey", "HFDN"]
    # The same network, and upscaling as the bicubic baseline does.
    assert rows["Luma"]["psnr"] == pytest.approx(rows["HFDN"]["psnr"], abs=0.01)
    assert rows["Grey"]["psnr"] == pytest.approx(rows["bicubic"]["psnr"], abs=1e-6)
    assert rows["RGB"]["psnr"] == pytest.approx(rows["bicubic"]["psnr"], abs=0.3)
    assert rows["RGB"]["psnr"] != rows["bicubic"]["psnr"]
    assert rows["Luma"]["weights"] == ""


def test_grey_images_are_luma_to_rgb_networks(tmp_path):
    network = Given.open("RGB", save_identity(tmp_path / "rgb.onnx", 3))
    grey = np.random.default_rng(0).integers(0, 256, (24, 28), np.uint8)
    for name, image in (("a.png", grey), ("b.png", np.dstack([grey, grey // 2]))):
        write_image(tmp_path / name, image)
        luma = network.upscaled(tmp_path / name, 2)
        np.testing.assert_array_equal(luma, to_levels(imresize(imresize(grey, 0.5), 2)))


def test_networks_of_another_scale_are_left_out(tiny, bundle, capsys):
    options = ["--peer", f"x4={bundle / 'fp32.onnx'}", "--scale", "2", "--json"]
    assert main(["quality", "--data", str(tiny), *options]) == 0
    assert [row["method"] for row in json.loads(capsys.readouterr().out)] == ["bicubic", "HFDN"]


def test_what_is_no_network_is_one_sentence(tmp_path):
    (tmp_path / "text.onnx").write_text("no graph")
    shape = (1, 1, "h", "w")
    halved = tiny_model(
        [helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2])],
        {"x": (np.float32, shape)},
        {"y": (np.float32, shape)},
    )
    onnx.save(halved, tmp_path / "halved.onnx")
    fixed = tiny_model(
        [helper.make_node("Identity", ["x"], ["y"])],
        {"x": (np.float32, (1, 1, 8, 8))},
        {"y": (np.float32, (1, 1, 8, 8))},
    )
    onnx.save(fixed, tmp_path / "fixed.onnx")
    for path, words in (
        (tmp_path / "missing.onnx", "cannot be read: No such file"),
        (tmp_path / "text.onnx", "is not an ONNX graph"),
        (save_identity(tmp_path / "four.onnx", 4), "does not take luma or RGB"),
        (tmp_path / "halved.onnx", r"makes \(1, 1, 16, 16\) of 32×32 pixels"),
        (tmp_path / "fixed.onnx", "export it with variable sizes"),
    ):
        with pytest.raises(InputError, match=words):
            Given.open("name", path)


def test_a_name_is_asked_for(capsys, tmp_path):
    command = ["quality", "--data", str(tmp_path), "--peer"]
    for text, words in (
        ("imdn.onnx", "'imdn.onnx' is not a name and a file such as IMDN=imdn.onnx"),
        ("HFDN=imdn.onnx", "HFDN is a name of this table; choose another"),
    ):
        assert words in misused(capsys, [*command, text], main)
