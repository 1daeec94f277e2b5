"""Target sizes of `hfdn upscale`."""

import json

import numpy as np
import pytest

from hfdn_deploy import Upscaler
from hfdn_deploy.cli import main
from hfdn_deploy.files import upscale_bytes
from hfdn_deploy.images import decode_header, read_image, write_image
from tests.helpers.commands import misused, refused

# This backend opens fastest.
FAST = ("--backend", "onnxruntime", "--precision", "int8")


@pytest.fixture
def small(tmp_path, photo):
    write_image(tmp_path / "in" / "a.png", photo[:12, :20])
    return tmp_path / "in" / "a.png"


@pytest.mark.parametrize(
    ("options", "size", "told"),
    [
        ("--scale 3.5", (70, 42), "20×12 → 70×42: ×4 network, then resized from 80×48"),
        ("--scale 6", (120, 72), "20×12 → 120×72: ×3 network, then ×2 network"),
        ("--scale 3", (60, 36), None),
        ("--size 60x60", (60, 36), "20×12 → 60×36: ×3 network"),
        ("--size 41X25", (41, 25), "20×12 → 41×25: ×3 network, then resized from 60×36"),
        ("--width 40", (40, 24), "20×12 → 40×24: ×2 network"),
        ("--height 6", (10, 6), "20×12 → 10×6: only resized"),
        ("--width 20", (20, 12), "20×12 → 20×12: has this size already"),
        (
            "--model x2 --width 50", (50, 30),
            "20×12 → 50×30: ×2 network, then ×2 network, then resized from 80×48",
        ),
        ("--model x4 --scale 3", (60, 36), "20×12 → 60×36: ×4 network, then resized from 80×48"),
    ],
)  # fmt: skip
def test_what_results_measure(small, tmp_path, caplog, capsys, options, size, told):
    caplog.set_level("INFO", "hfdn_deploy")
    out = tmp_path / "out.png"
    command = ["upscale", str(small), "-o", str(out), *options.split(), *FAST]
    assert main([*command, "--json"]) == 0
    assert read_image(out).shape == (size[1], size[0], 3)
    (image,) = json.loads(capsys.readouterr().out)["images"]
    assert (image["width"], image["height"]) == size
    assert [message for message in caplog.messages if "→" in message] == ([told] if told else [])


def test_a_folder_of_many_sizes(small, tmp_path, photo, capsys):
    """Each image runs on the networks that it needs; in batches, images of one size together."""
    for name, crop in {"b": photo[:12, :20], "c": photo[:15, :10], "d": photo}.items():
        write_image(small.with_name(f"{name}.png"), crop)
    command = ["upscale", str(small.parent), "-o", str(tmp_path / "out"), "--width", "40"]
    assert main([*command, "--batch", "2", *FAST, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    sizes = {path.stem: read_image(path).shape[:2] for path in (tmp_path / "out").glob("*.png")}
    assert sizes == {"a": (24, 40), "b": (24, 40), "c": (60, 40), "d": (29, 40)}
    assert (report["precision"], report["scale"]) == ("int8", None)
    with Upscaler.load(2, "onnxruntime", "int8") as up:
        expected = up(photo[:12, :20]).astype(int)
    assert np.abs(read_image(tmp_path / "out" / "a.png") - expected).max() <= 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--scale 1", "a scale of 1 does not upscale; give one above 1."),
        ("--scale 17", "two networks in a row reach at most ×16, not ×17; choose a smaller size."),
        ("--width 400", "a.png: two networks in a row reach at most ×16, not ×20;"),
        ("--model x2 --width 100", "reach at most ×4, not ×5; choose a smaller size."),
    ],
)
def test_what_networks_do_not_reach(small, tmp_path, capsys, options, words):
    code, error = refused(capsys, "upscale", small, "-o", tmp_path / "out.png", *options.split())
    assert (code, words in error) == (2, True), error
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--size 1920", "'1920' is not a size such as 1920x1080"),
        ("--size 0x9", "'0x9' is not a size such as 1920x1080"),
        ("--width 0", "'0' is not a whole number above 0"),
        ("--scale x", "'x' is not a number above 0"),
        ("--scale 2 --width 9", "argument --width: not allowed with argument --scale"),
        ("--width 9 --height 9", "argument --height: not allowed with argument --width"),
    ],
)
def test_what_is_no_size(capsys, options, words):
    assert words in misused(capsys, ["upscale", "a.png", "-o", "b.png", *options.split()])


def test_bytes_come_to_a_size(small):
    """The workers of a cluster upscale images this way."""
    with Upscaler.load(None, "onnxruntime", "int8", size=(None, 24)) as up:
        data, _ = upscale_bytes(up, small.read_bytes(), "a.png", "b.png")
    assert decode_header(data, "b.png").height == 24


def test_another_size_is_not_done(small, tmp_path, capsys):
    command = ["upscale", str(small.parent), "-o", str(tmp_path / "out"), "--resume", *FAST]
    assert main([*command, "--width", "40", "--json"]) == 0
    capsys.readouterr()
    assert main([*command, "--width", "40", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["skipped"] == 1
    for options, words in {
        "--width 41": "made with target 40×any height, not 41×any height; --force overwrites.",
        "--scale 2": "made with scale the default, not 2; --force overwrites.",
    }.items():
        assert main([*command, *options.split()]) == 2
        assert words in capsys.readouterr().err
