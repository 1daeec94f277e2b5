"""The command line `python -m benchmarks COMMAND`."""

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
    page,
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
from hfdn_deploy.cli import Parser, run_command

# The module of each command, and arguments for the example in its help.
COMMANDS = {
    "adversary": (adversary, "--model x4"),
    "quality": (quality, "--scale 4 --data photos"),
    "complexity": (complexity, "--json"),
    "latency": (latency, "--size 320 180 --rounds 10"),
    "overhead": (overhead, "--backend openvino --precision int8"),
    "memory": (memory, "--scale 4 --precision int8"),
    "growth": (growth, "--scale 2 --sizes 400"),
    "tiling": (tiling, "--side 768 --tile 384 256"),
    "sessions": (sessions, "--rounds 5"),
    "startup": (startup, "--rounds 7"),
    "service": (service, "--seconds 60"),
    "hostile": (hostile, "--seconds 60"),
    "kinds": (kinds, "--sheet kinds.png"),
    "soak": (soak, "--requests 400"),
    "throughput": (throughput, "--rounds 3 --size 320x180 --kinds .png .mp4"),
    "steps": (steps, "--rounds 10"),
    "scale": (scale, "--images 160"),
    "gpu": (gpu, "build/gpu"),
    "page": (page, "docs/explanation/int8.md"),
    "demo": (demo, "--bundle hfdn_deploy/bundle/pretrained/x4 --picture demo.png"),
    "report": (report, "-o build/report --rounds 3"),
}


def main(argv: list[str]) -> int:
    """Run the command line and return the exit code."""
    parser = Parser(prog="python -m benchmarks")
    parser.add_examples(f"{parser.prog} latency {COMMANDS['latency'][1]}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (module, example) in COMMANDS.items():
        summary = (module.__doc__ or "").splitlines()[0]
        command = commands.add_parser(name, help=summary, description=summary)
        module.add_arguments(command)
        command.add_examples(f"{command.prog} {example}")
        command.set_defaults(main=module.main)
    args = parser.parse_args(argv)
    return run_command(lambda: args.main(args))
