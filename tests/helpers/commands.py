"""Commands run in this process."""

from hfdn_deploy.cli import main


def refused(capsys, *arguments):
    """Exit code and the one line on stderr that says what is wrong."""
    code = main([str(a) for a in arguments])
    lines = capsys.readouterr().err.splitlines()
    lines = [line for line in lines if not line.startswith("backend: ")]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return code, lines[0]
