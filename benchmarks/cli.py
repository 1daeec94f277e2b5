"""The command line `python -m benchmarks COMMAND`."""

import argparse

from benchmarks import (
    adversary,
    complexity,
    demo,
    gpu,
    growth,
    hostile,
    kinds,
    latency,
    memory,
    overhead,
    quality,
    report,
    scale,
    service,
    sessions,
    soak,
    startup,
    steps,
    throughput,
    tiling,
)
from hfdn_deploy.cli import run_command

COMMANDS = {
    "adversary": adversary,
    "quality": quality,
    "complexity": complexity,
    "latency": latency,
    "overhead": overhead,
    "memory": memory,
    "growth": growth,
    "tiling": tiling,
    "sessions": sessions,
    "startup": startup,
    "service": service,
    "hostile": hostile,
    "kinds": kinds,
    "soak": soak,
    "throughput": throughput,
    "steps": steps,
    "scale": scale,
    "gpu": gpu,
    "demo": demo,
    "report": report,
}


def main(argv: list[str]) -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        summary = (module.__doc__ or "").splitlines()[0]
        command = commands.add_parser(name, help=summary, description=summary)
        module.add_arguments(command)
        command.set_defaults(main=module.main)
    args = parser.parse_args(argv)
    return run_command(lambda: args.main(args))
