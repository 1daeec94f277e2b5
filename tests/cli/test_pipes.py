"""`hfdn upscale` from stdin and to stdout."""

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hfdn_deploy.cli import main
from hfdn_deploy.images import decode_image, encode_image, read_image, write_image
from tests.helpers.paths import ROOT

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)


@pytest.fixture
def stdin(monkeypatch):
    """Put bytes on stdin."""

    def put(data):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))

    return put


@pytest.fixture
def source(tmp_path):
    write_image(tmp_path / "a.png", PIXELS)
    return tmp_path / "a.png"


@pytest.fixture
def expected(source, bundle, tmp_path):
    """Return the output of a run from file to file."""
    out = tmp_path / "expected.png"
    assert main(["upscale", str(source), "-o", str(out), "--model", str(bundle)]) == 0
    return out.read_bytes()


def test_an_image_goes_through(source, expected, bundle, stdin, capfdbinary, tmp_path, caplog):
    command = ["upscale", "--model", str(bundle)]
    capfdbinary.readouterr()
    stdin(source.read_bytes())
    assert main([*command, "-", "-o", "-"]) == 0
    assert capfdbinary.readouterr().out == expected
    assert main([*command, str(source), "-o", "-"]) == 0
    assert capfdbinary.readouterr().out == expected
    stdin(source.read_bytes())
    assert main([*command, "-", "-o", "-", "--format", "tif"]) == 0
    tiff = capfdbinary.readouterr().out
    assert tiff.startswith(b"II*\0")
    assert (decode_image(tiff, "") == decode_image(expected, "")).all()
    stdin(source.read_bytes())
    out = tmp_path / "out.png"
    assert main([*command, "-", "-o", str(out), "--json"]) == 0
    report = json.loads(capfdbinary.readouterr().out)
    assert (report["images"][0]["input"], report["images"][0]["height"]) == ("stdin", 24)
    assert (read_image(out) == decode_image(expected, "")).all()
    other = source.rename(source.with_suffix(".odd"))
    assert main([*command, str(other), "-o", "-"]) == 0
    assert capfdbinary.readouterr().out == expected
    assert "a.odd: .odd cannot be written; the format on stdout is .png" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-", "-o", "out/"], "out/ is a folder, and stdin has no file name to keep; name a file"),
        (["-", "-o", "out.xyz"], "unknown image format '.xyz'"),
        (["-", "-o", "a.png"], "a.png already exists"),
        (["-", "-o", "b.png", "--format", "jpg"], "b.png is not of format .jpg"),
        (["-", "a.png", "-o", "-"], "- (stdin) is one image; give no other inputs"),
        (["a.png", "b.jpg", "-o", "-"], "stdout takes one image, not 2"),
        (["v.mp4", "-o", "-"], "v.mp4 is a video, and stdout takes only an image"),
        (["c.png", "-o", "-"], "c.png cannot be read: No such file"),
        (["n.txt", "-o", "-"], "n.txt is not an image or video"),
        (["-", "-o", "-", "--json"], "--json and the image would both go to stdout"),
        (["-", "-o", "-", "--resume"], "--resume is for files in folders"),
        (["-", "-o", "-", "--suffix", "_x"], "--suffix is for files in folders"),
        (["-", "-o", "x", "--cluster", "ray"], "- (stdin) is for --cluster local"),
        (["-", "-o", "-"], "stdin is not an image in a known format"),
    ],
)
def test_what_does_not_fit_is_refused(
    source, stdin, capfd, tmp_path, monkeypatch, arguments, words
):
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "b.jpg", PIXELS)
    for name in ("v.mp4", "n.txt"):
        (tmp_path / name).touch()
    before = sorted(tmp_path.iterdir())
    stdin(b"no image" * 100)
    monkeypatch.setattr("hfdn_deploy.upscaler.Upscaler.open", None)
    assert main(["upscale", *arguments]) == 2
    printed = capfd.readouterr()
    assert words in printed.err.splitlines()[-1]
    assert "--json" in arguments or not printed.out
    assert sorted(tmp_path.iterdir()) == before


def test_stdin_without_end_is_refused(stdin, capfd, monkeypatch):
    monkeypatch.setattr("hfdn_deploy.cli.upscale_pipes.free_memory", lambda: 2**23)
    stdin(encode_image(PIXELS, ROOT / "a.png") + bytes(2**22))
    assert main(["upscale", "-", "-o", "-"]) == 2
    assert "stdin has more than 2 MiB, too much for the free memory" in capfd.readouterr().err


def run(arguments, **options):
    command = [sys.executable, "-m", "hfdn_deploy", "upscale", *arguments]
    return subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, **options)


def test_a_full_disk_behind_stdout_is_named(source, bundle):
    with Path("/dev/full").open("wb") as full:
        ran = run([str(source), "-o", "-", "--model", str(bundle)], stdout=full)
    assert ran.returncode == 2
    last = ran.stderr.splitlines()[-1]
    assert last == "error: stdout cannot be written: No space left on device; redirect it."


def test_a_terminal_gets_no_bytes(source):
    terminal, end = pty.openpty()
    try:
        for arguments, words in (
            ([str(source), "-o", "-"], "stdout is a terminal; redirect it"),
            (["-", "-o", "x.png"], "stdin is a terminal; pipe an image in"),
        ):
            ran = run(arguments, stdin=end, stdout=end)
            assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)
            assert words in ran.stderr
    finally:
        os.close(terminal)
        os.close(end)


def test_a_reader_that_is_gone_is_no_traceback(source, bundle):
    reader, writer = os.pipe()
    os.close(reader)
    ran = run([str(source), "-o", "-", "--model", str(bundle), "-q"], stdout=writer)
    os.close(writer)
    assert (ran.returncode, ran.stderr) == (141, "")
