"""Commands run in this process."""

import pytest

from hfdn_deploy.cli import main


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Return the exit code and the one line on stderr that says what is wrong."""
    code = main([str(a) for a in arguments])
    lines = capsys.readouterr().err.splitlines()
    lines = [line for line in lines if not line.startswith("backend: ")]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return code, lines[0]
