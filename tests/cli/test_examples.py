"""The help of every command ends with an example that its own parser accepts."""

import shlex
import subprocess
import sys
from importlib import import_module

import pytest

from hfdn_deploy.cli import commands, main
from tests.helpers.paths import ROOT

# The module of each program, and the name of the commands in it.
PROGRAMS = {
    "hfdn": ("hfdn_deploy.cli.commands", "COMMANDS"),
    "python -m export": ("export.cli", "_SUBCOMMANDS"),
    "python -m training": ("training.cli", "COMMANDS"),
    "python -m benchmarks": ("benchmarks.cli", "COMMANDS"),
}


def command_line(program):
    """Return the module of a program's command line, or skip the test."""
    if program != "hfdn":
        pytest.importorskip("torch")
    return import_module(PROGRAMS[program][0])


def examples(text):
    """Return the examples that end a help text, each as its words."""
    title = "\nexamples:\n" if "\nexamples:\n" in text else "\nexample:\n"
    _, found, lines = text.rpartition(title)
    assert found, f"this help has no example:\n{text}"
    assert lines.strip()
    assert all(line.startswith("  ") for line in lines.splitlines()), lines
    return [shlex.split(line, comments=True) for line in lines.splitlines()]


def accepts(module, words, monkeypatch):
    """Parse the arguments of an example, and run nothing."""
    if module.__name__ == "training.cli":  # it parses inside `run_command`
        word = words[0] if words[0] in module.COMMANDS else ""
        assert callable(module.COMMANDS[word](words[bool(word) :]))
        return
    ran = []
    monkeypatch.setattr(module, "run_command", lambda command: ran.append(command) or 0)
    assert module.main(words) == 0
    assert len(ran) == 1


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_help_ends_with_an_example(program, capsys, monkeypatch):
    module = command_line(program)
    names = {"", *getattr(module, PROGRAMS[program][1])}
    for name in names:
        with pytest.raises(SystemExit) as caught:
            module.main([name, "--help"] if name else ["--help"])
        assert caught.value.code == 0
        for words in examples(capsys.readouterr().out):
            prog = program.split()
            assert words[: len(prog)] == prog
            # The help of a whole program may show one of its commands.
            assert not name or words[len(prog)] == name, (name, words)
            accepts(module, words[len(prog) :], monkeypatch)


def test_a_command_without_an_example_fails(capsys, monkeypatch):
    monkeypatch.setitem(commands.COMMANDS, "doctor", ("report what is installed",))
    with pytest.raises(SystemExit):
        main(["doctor", "--help"])
    with pytest.raises(AssertionError, match="assert ''"):
        examples(capsys.readouterr().out)


def test_hfdn_without_arguments_shows_three_examples():
    ran = subprocess.run(
        [sys.executable, "-m", "hfdn_deploy"], cwd=ROOT, capture_output=True, text=True
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert len(ran.stdout.splitlines()) <= 12
    shown = [line for line in ran.stdout.splitlines() if line.startswith("  hfdn ")]
    image, folder, video = [shlex.split(line, comments=True)[1:] for line in shown]
    for words in (image, folder, video):
        assert commands.parser(["upscale"]).parse_args(words).inputs
    assert "--precision" not in image
    assert folder[-2:] == ["--precision", "auto"]
    assert video[1].endswith(".mp4")
