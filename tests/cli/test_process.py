import os
import signal
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from hfdn_deploy import backends, engines
from hfdn_deploy.images import read_image, write_image
from tests.helpers.paths import ROOT


def start_info(bundle, stdout):
    command = [sys.executable, "-m", "hfdn_deploy", "info", str(bundle), "--json"]
    return subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, text=True)


def test_nobody_reads_the_output(bundle):
    process = start_info(bundle, subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 141


def test_a_full_disk_behind_standard_output(bundle):
    with Path("/dev/full").open("w") as full:
        process = start_info(bundle, full)
    assert process.stderr.read().startswith("error: [Errno 28] No space left")
    assert process.wait() == 2


def test_interruption_leaves_no_output(tmp_path, photo, bundle):
    write_image(tmp_path / "large.png", np.tile(photo, (4, 4, 1)))
    arguments = ["upscale", "large.png", "-o", "out/large.png", "--model", str(bundle)]
    process = subprocess.Popen(
        [sys.executable, "-m", "hfdn_deploy", *arguments],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stderr.readline().startswith("backend:")
    process.send_signal(signal.SIGINT)
    rest = process.communicate()[1]
    assert process.returncode == 130
    assert "interrupted" in rest
    assert "Traceback" not in rest
    assert [p.name for p in tmp_path.rglob("*")] == ["large.png"]


@pytest.mark.parametrize(
    ("command", "number"),
    [
        ("hfdn_deploy info setup.cfg", signal.SIGINT),
        ("hfdn_deploy info setup.cfg", signal.SIGTERM),
        ("hfdn_deploy info setup.cfg", signal.SIGHUP),
        ("export --help", signal.SIGINT),
        ("training --help", signal.SIGINT),
        ("benchmarks --help", signal.SIGINT),
    ],
)
def test_interruption_while_modules_are_imported(tmp_path, command, number):
    if not command.startswith("hfdn_deploy"):
        pytest.importorskip("torch", exc_type=ModuleNotFoundError)
    (tmp_path / "psutil.py").write_text("import time\nprint('now', flush=True)\ntime.sleep(60)\n")
    process = subprocess.Popen(
        [sys.executable, "-m", *command.split()],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert process.stdout.readline() == "now\n"
    process.send_signal(number)
    assert process.communicate()[1] == "interrupted; nothing half-written is left.\n"
    assert process.returncode == 130


def check_interrupted(*arguments, modules):
    """Run Python with these modules first on its path, and expect an interruption."""
    process = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(modules)},
    )
    assert process.stderr == "interrupted; nothing half-written is left.\n"
    assert process.returncode == 130


@pytest.mark.parametrize("program", ["hfdn_deploy", "export", "training", "benchmarks"])
def test_interruption_before_anything_is_imported(tmp_path, program):
    """`lazy_loader` is the first module that the command line itself imports."""
    (tmp_path / "lazy_loader.py").write_text("import signal\nsignal.raise_signal(2)\n")
    check_interrupted("-m", program, "--help", modules=tmp_path)


def test_interruption_at_the_very_end(tmp_path):
    code = "import atexit, signal; atexit.register(signal.raise_signal, 2)\n"
    code += "from runpy import run_module; run_module('hfdn_deploy', run_name='__main__')"
    check_interrupted("-c", code, "--help", modules=tmp_path)


def test_interruption_that_an_import_turns_into_another_error(tmp_path):
    text = "import signal\ntry:\n    signal.raise_signal(signal.SIGINT)\n"
    text += "except KeyboardInterrupt:\n    raise ImportError('initialization failed') from None\n"
    (tmp_path / "psutil.py").write_text(text)
    check_interrupted("-m", "hfdn_deploy", "info", "setup.cfg", modules=tmp_path)


@pytest.mark.parametrize(("owner", "name"), [(backends, "onnxruntime"), (engines, "tensorrt")])
def test_interruption_while_an_engine_is_imported(monkeypatch, owner, name):
    """An extension module turns it into an ImportError, which looks like a broken package."""

    class Fragile(types.ModuleType):
        def __getattr__(self, name):
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                raise ImportError("initialization failed") from None
            return super().__getattribute__(name)

    monkeypatch.setitem(sys.modules, name, Fragile(name))
    with pytest.raises(KeyboardInterrupt):
        owner.why_unavailable(name)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    ("closed", "words"),
    [
        (">&-", "stdout is closed; redirect it"),
        ("<&- >/dev/full", "stdin is empty; it should be an image"),
    ],
)
def test_a_closed_stream_holds_no_image(closed, words):
    command = f"{sys.executable} -m hfdn_deploy upscale - -o - {closed}"
    run = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert (run.returncode, run.stderr.count("\n")) == (2, 1)
    assert words in run.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_standard_streams(tmp_path, photo, closed):
    """The next open file would take their place, and receive what is printed."""
    write_image(tmp_path / "a.png", photo)
    command = f"{sys.executable} -m hfdn_deploy upscale a.png -o b.png --scale 2 --json {closed}"
    run = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0
    assert "Traceback" not in run.stderr
    assert read_image(tmp_path / "b.png").shape == (2 * photo.shape[0], 2 * photo.shape[1], 3)
