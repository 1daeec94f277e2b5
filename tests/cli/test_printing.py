import json
import logging
import subprocess
import sys

import pytest

from hfdn_deploy.cli import main
from hfdn_deploy.cli.logs import set_up_logging
from hfdn_deploy.cli.printing import printable
from hfdn_deploy.images import write_image
from tests.helpers.commands import refused
from tests.helpers.paths import ROOT

NASTY = "a\x1b]0;owned\x07\nb\u202e.png"
SHOWN = r"a\x1b]0;owned\x07\nb\u202e.png"


def test_what_acts_on_a_terminal_is_escaped():
    assert printable(NASTY) == SHOWN
    for text in ("größer ×4 日本 👩‍🚀.png", r"C:\new", "it's"):
        assert printable(text) == text


@pytest.mark.parametrize(
    "command",
    [
        ["info", NASTY],
        ["upscale", NASTY, "-o", "b.png", "--scale", "2"],
        ["upscale", "photo.png", "-o", "b.png", "--model", NASTY],
        ["upscale", "photo.png", "-o", "b.png", NASTY, "--quality", "9"],
        ["bench", NASTY],
        ["doctor", NASTY],
    ],
)
def test_names_reach_no_terminal_raw(tmp_path, photo, command):
    write_image(tmp_path / "photo.png", photo[:5, :6])
    ran = subprocess.run(
        [sys.executable, "-m", "hfdn_deploy", *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert ran.returncode == 2
    assert SHOWN in ran.stderr
    for raw in ("\x1b", "\x07", "\u202e"):
        assert raw not in ran.stdout + ran.stderr


def test_what_was_written_is_named(tmp_path, photo, capsys):
    write_image(tmp_path / "in" / NASTY, photo[:5, :6])
    write_image(tmp_path / "in" / "b.png", photo[:5, :6])
    out = tmp_path / "out"
    command = ["upscale", "--scale", "2", "-o", str(out)]
    assert main([*command, str(tmp_path / "in" / NASTY)]) == 0
    assert capsys.readouterr().out == f"{out}/{SHOWN}\n"
    assert main([*command, str(tmp_path / "in"), "--force"]) == 0
    assert capsys.readouterr().out == f"{out}: 2 files\n"


def test_a_failure_is_json_where_json_is_asked_for(tmp_path, capsys):
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "a.engine").write_bytes(b"")
    for command, words in [
        (["info", "missing"], "missing does not exist"),
        (["info", "x5"], "no pretrained bundle for scale 5; there is one for 2, 3, 4."),
        (["build", "x7", "--json"], "no pretrained bundle for scale 7"),
        (["upscale", "missing.png", "-o", str(tmp_path / "b.png")], "missing.png cannot be read"),
        (["upscale", str(tmp_path / "text.png"), "-o", str(tmp_path / "b.png")], "is not an image"),
        (["inspect", str(tmp_path / "a.engine")], "a.engine"),
        (["compare", "fp32", "int8", "--input", "missing.png"], "missing.png cannot be read"),
        (["bench", "x5"], "no pretrained bundle for scale 5"),
    ]:
        command += [str(tmp_path / "b.json")] if command[0] == "bench" else []
        command[1:1] = [] if "--json" in command or command[0] == "bench" else ["--json"]
        command[2:2] = ["--json"] if command[0] == "bench" else []
        code = main(command)
        printed = capsys.readouterr()
        report = json.loads(printed.out)
        assert words in report["error"]
        assert f"error: {report['error']}\n" in printed.err
        assert code == report["exit_code"] != 0
        if command[0] == "upscale":
            assert [f["error"] for f in report["failures"]] == [report["error"]]
    assert not (tmp_path / "b.json").exists()
    with pytest.raises(SystemExit, match="2"):
        main(["upscale", "a.png", "--json"])
    printed = capsys.readouterr()
    message = "the following arguments are required: -o/--output"
    assert json.loads(printed.out) == {"error": message, "exit_code": 2}
    assert printed.err == f"error: {message}; see `hfdn upscale --help`.\n"


def test_a_manifest_that_is_too_large_is_not_read(tmp_path, capsys):
    with (tmp_path / "manifest.json").open("wb") as file:
        file.truncate(3 * 2**30)
    code, line = refused(capsys, "info", tmp_path)
    assert code == 2
    assert "manifest.json has 3,221,225,472 bytes, and at most 67,108,864 are read" in line


@pytest.fixture
def set_up(capsys):
    """Set up logging as a program does, without pytest's own handlers; returns what reads it."""
    root, own = logging.getLogger(), logging.getLogger("hfdn_deploy")
    levels = root.level, own.level

    def start(*arguments):
        root.handlers.clear()
        set_up_logging(*arguments)
        return lambda: capsys.readouterr().err.splitlines()

    yield start
    root.handlers.clear()
    root.setLevel(levels[0])
    own.setLevel(levels[1])


def test_what_is_said_of_models_is_said_once(set_up):
    lines = set_up()
    for _ in range(3):
        logging.getLogger("hfdn_deploy.upscaler.network").info("backend: %s", "openvino")
        logging.getLogger("hfdn_deploy.service.batcher").warning("a batch failed\n")
    assert lines() == ["backend: openvino", *3 * [r"a batch failed\n"]]


@pytest.mark.parametrize(("level", "shown"), [("debug", "dio"), ("info", "io"), ("error", "")])
def test_levels(set_up, level, shown):
    lines = set_up(level)
    for name in ("hfdn_deploy.cli", "another"):
        logging.getLogger(name).debug("d" if name != "another" else "x")
        logging.getLogger(name).info("i" if name != "another" else "o")
    assert "".join(lines()) == shown


def test_tracebacks_keep_their_lines(set_up):
    lines = set_up()
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("hfdn_deploy").exception("failed\x1b")
    first, *rest = lines()
    assert first == r"failed\x1b"
    assert rest[-1] == "ValueError: why"


def test_json_logs_need_a_package(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pythonjsonlogger", None)
    assert main(["serve", "--log-format", "json"]) == 2
    expected = "error: JSON logs need python-json-logger; pip install 'hfdn-deploy[serve]'.\n"
    assert capsys.readouterr().err == expected
