"""`python -m export CHECKPOINT -o BUNDLE` and `python -m export verify BUNDLE CHECKPOINT`."""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from export.exporter import export_bundle, verify_bundle
from hfdn_deploy.bundle import PRECISIONS, ModelFile
from hfdn_deploy.command import run_command
from hfdn_deploy.network.config import HFDNConfig


def _export(args: argparse.Namespace) -> None:
    bundle = export_bundle(
        args.checkpoint, args.output, args.precisions, _config(args), args.locate
    )
    _report(bundle.path, bundle.manifest.files)


def _verify(args: argparse.Namespace) -> None:
    files = verify_bundle(args.bundle, args.checkpoint, _config(args), args.locate)
    _report(args.bundle, files)


def _config(args: argparse.Namespace) -> HFDNConfig | None:
    return HFDNConfig(args.scale) if args.scale else None


def _report(bundle: Path, files: Iterable[ModelFile]) -> None:
    for entry in files:
        gates = ", ".join(f"{g.name} {g.value:.2g} (≤ {g.limit:g})" for g in entry.parity.gates)
        cases, worst = entry.parity.cases, entry.parity.worst
        print(f"{bundle / entry.file}: {len(cases)} cases, worst {worst.name!r}: {gates}")


def main(argv: list[str]) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m export", description=__doc__)
    if argv[:1] == ["verify"]:
        parser.prog += " verify"
        argv = argv[1:]
        parser.add_argument("bundle", type=Path)
        parser.add_argument("checkpoint", type=Path)
        command = _verify
    else:
        parser.add_argument("checkpoint", type=Path)
        parser.add_argument("-o", "--output", type=Path, required=True, help="bundle directory")
        parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=["fp32"])
        command = _export
    parser.add_argument("--scale", type=int, help="of a .pth file, which does not say")
    parser.add_argument("--locate", action="store_true", help="name the first departing node")
    args = parser.parse_args(argv)
    return run_command(lambda: command(args))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
