"""Runs of the command line in this process."""

from collections.abc import Callable

import pytest

from hfdn_deploy.cli import main


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Run a command that fails; return the exit code and the one error line on stderr."""
    code = main([str(a) for a in arguments])
    lines = capsys.readouterr().err.splitlines()
    lines = [line for line in lines if not line.startswith("backend: ")]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return code, lines[0]


def misused(
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    program: Callable[[list[str]], object] = main,
) -> str:
    """Return the stderr of a command line that rejects its arguments."""
    with pytest.raises(SystemExit) as caught:
        program(arguments)
    assert caught.value.code == 2
    return capsys.readouterr().err
