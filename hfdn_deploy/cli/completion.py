"""The command `hfdn completion`: print a script that completes commands, options and files."""

import argparse
from pathlib import Path

from hfdn_deploy.errors import InputError

SHELLS = ("bash", "zsh", "fish")
_EPILOG = """\
bash: hfdn completion bash > ~/.local/share/bash-completion/completions/hfdn
zsh:  hfdn completion zsh > DIR/_hfdn, where DIR is in $fpath
fish: hfdn completion fish > ~/.config/fish/completions/hfdn.fish
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.epilog = _EPILOG
    parser.add_argument("shell", choices=SHELLS)


def run(args: argparse.Namespace) -> None:
    """Print the script.

    Raises:
        InputError: shtab is not installed.
    """
    try:
        import shtab
    except ModuleNotFoundError:
        raise InputError(
            "completion needs shtab", "pip install 'hfdn-deploy[completion]'"
        ) from None
    from hfdn_deploy.cli.commands import COMMANDS, parser

    whole = parser(COMMANDS)
    for command in _commands(whole):
        for action in command._actions:
            if action.type is Path or action.dest in ("inputs", "output", "models", "bundle"):
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(whole, args.shell))


def _commands(whole: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    (found,) = (a for a in whole._actions if isinstance(a, argparse._SubParsersAction))
    return list(found.choices.values())
