"""The scripts of `hfdn completion`."""

import argparse
import shutil
import subprocess
import sys

import pytest

from hfdn_deploy.cli import main
from hfdn_deploy.cli.commands import COMMANDS, parser
from tests.helpers.commands import refused


def script(capsys, shell):
    pytest.importorskip("shtab")
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


def options():
    """Yield each option of each command."""
    (found,) = (a for a in parser(COMMANDS)._actions if isinstance(a, argparse._SubParsersAction))
    for name, command in found.choices.items():
        for action in command._actions:
            if action.help != argparse.SUPPRESS:
                yield from ((name, option) for option in action.option_strings)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_option_of_every_command_is_in_it(capsys, shell):
    text = script(capsys, shell)
    found = list(options())
    assert len({name for name, _ in found}) == len(COMMANDS)
    for name, option in found:
        assert name in text
        # In fish, options are listed without dashes.
        assert (option.lstrip("-") if shell == "fish" else option) in text, (name, option)


def test_bash_completes(capsys, tmp_path):
    if not (bash := shutil.which("bash")):
        pytest.skip("there is no bash")
    (tmp_path / "script").write_text(script(capsys, "bash"))
    (tmp_path / "photo.png").touch()
    for words, expected in (
        ("hfdn ups", {"upscale"}),
        ("hfdn upscale --re", {"--recursive", "--resume"}),
        ("hfdn upscale --precision i", {"int8"}),
        ("hfdn upscale pho", {"photo.png"}),
        ("hfdn bench --scen", {"--scenario"}),
        ("hfdn completion z", {"zsh"}),
    ):
        given = words.split()
        program = f"""source ./script; COMP_WORDS=({words}); COMP_CWORD={len(given) - 1}
            _shtab_hfdn hfdn {given[-1]} {given[-2]}; printf '%s\\n' "${{COMPREPLY[@]}}" """
        ran = subprocess.run([bash, "-c", program], cwd=tmp_path, capture_output=True, text=True)
        assert {word.strip() for word in ran.stdout.split("\n") if word} == expected, words


def test_a_package_that_is_missing(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    code, line = refused(capsys, "completion", "bash")
    assert (code, line) == (
        2,
        "error: completion needs shtab; pip install 'hfdn-deploy[completion]'.",
    )
