"""Upscale images and videos, build engines, measure, serve, and describe files."""

import argparse
import logging
import os
import warnings
from collections.abc import Collection, Sequence
from importlib import import_module
from typing import Any

from hfdn_deploy.cli.logs import set_up_logging
from hfdn_deploy.cli.parser import Parser
from hfdn_deploy.cli.printing import json_report
from hfdn_deploy.cli.process import run_command

# The summary of each command, then examples that work as written.
COMMANDS = {
    "upscale": (
        "upscale images and videos",
        "hfdn upscale photo.png -o large.png            # an image, 4 times as wide and high",
        "hfdn upscale photos -o large --precision auto  # a folder, in the fastest precision",
        "hfdn upscale clip.mp4 -o large.mp4 --scale 2   # a video, 2 times as wide and high",
    ),
    "info": ("describe an image, video, bundle, graph, engine or checkpoint", "hfdn info x4"),
    "build": ("build a TensorRT engine", "hfdn build x4 -o x4.engine"),
    "inspect": ("list the layers of an engine and their precision", "hfdn inspect x4.engine"),
    "bench": (
        "measure latency, quality and memory on this machine",
        "hfdn bench x4 --size 320x180 --precisions fp32 int8",
    ),
    "compare": (
        "compare two backends, precisions or models on an image",
        "hfdn compare fp32 openvino,int8 --input photo.png -o difference.png",
    ),
    "serve": ("upscale over HTTP, with a web page", "hfdn serve --scale 4 --precision int8"),
    "doctor": ("report what is installed and what works", "hfdn doctor"),
    "cache": ("list or clear the cache of engines and compiled graphs", "hfdn cache list"),
    "completion": ("print a completion script for a shell", "hfdn completion bash"),
}
"""The module `hfdn_deploy.cli.COMMAND` adds the options of a command and runs it."""

_OVERVIEW = "\n  ".join(
    ["usage: hfdn COMMAND ...\n\nUpscale images and videos.\n\nexamples:", *COMMANDS["upscale"][1:]]
)
_OVERVIEW += "\n\n`hfdn --help` lists all commands, `hfdn COMMAND --help` the options of a command."


def main(argv: Sequence[str]) -> int:
    """Run the command line, or print a short help without arguments; return the exit code."""
    if not argv:
        print(_OVERVIEW)
        return 0
    chosen = next((word for word in argv if not word.startswith("-")), "")
    args = parser([chosen], "--json" in argv).parse_args(argv)
    # Our error message replaces the log lines of OpenCV and Pillow about a bad file.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    warnings.filterwarnings("ignore", module="PIL")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    return run_command(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    with json_report(bool(getattr(args, "json", False))) as args.report:
        set_up_logging(args.log_level, getattr(args, "log_format", "text"))
        args.run(args)


def parser(chosen: Collection[str], wants_json: bool = False) -> Parser:
    """Return a parser with the options of the chosen commands; no other command is imported.

    Args:
        chosen: names of commands.
        wants_json: also print errors as JSON, for commands whose --json is a switch.
    """
    parser = Parser(prog="hfdn", description=__doc__)
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    parser.add_examples(*COMMANDS["upscale"][1:])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (summary, *examples) in COMMANDS.items():
        command = commands.add_parser(name, help=summary)
        if name in chosen:
            module = import_module(f"hfdn_deploy.cli.{name}")
            module.add_arguments(command)
            verbosity = command.add_mutually_exclusive_group()
            verbosity.add_argument(
                "-q", "--quiet", dest="log_level", action="store_const", const="error",
                default="info", help="show only errors, and no progress",
            )  # fmt: skip
            verbosity.add_argument(
                "-v", "--verbose", dest="log_level", action="store_const", const="debug",
                help="show more messages, such as why a backend was chosen",
            )  # fmt: skip
            command.add_examples(*examples)
            command.set_defaults(run=module.run)
            command.wants_json = wants_json and name != "bench"  # its --json names a file
    return parser


class _Version(argparse.Action):
    """Action that looks the version up only when needed, because that imports much."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from hfdn_deploy import __version__

        print(__version__)
        parser.exit()
