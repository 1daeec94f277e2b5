"""The command `hfdn cache`."""

import argparse
import logging
from typing import Any

from hfdn_deploy.cli.printing import printable

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.epilog = "The cache is in $HFDN_CACHE, or else in the system's folder for caches."
    parser.add_argument(
        "action", choices=("list", "clear"), help="clear removes every entry without asking"
    )
    parser.add_argument("--json", action="store_true", help="machine-readable output")


def run(args: argparse.Namespace) -> None:
    """List the entries of the cache, or remove them.

    Raises:
        InputError: an entry cannot be read or removed.
    """
    from hfdn_deploy.engines import CacheEntry, cache_entries, cache_folder, remove_entry

    done: list[CacheEntry] = []
    args.report |= {"cache": str(cache_folder()), "entries": []}
    for entry in cache_entries():
        if args.action == "clear" and not remove_entry(entry):
            logger.warning("%s is being built and is not removed", entry.path)
            continue
        done.append(entry)
        facts: dict[str, Any] = {"path": str(entry.path), "what": entry.what, "bytes": entry.bytes}
        args.report["entries"].append({**facts, "changed": entry.changed.isoformat()})
        if not args.json:
            removed = "removed " if args.action == "clear" else ""
            size = f"{entry.bytes / 2**20:.1f} MiB"
            line = (
                f"{removed}{entry.path}: {entry.what}; {size}, {entry.changed:%Y-%m-%d %H:%M} UTC"
            )
            print(printable(line))
    if not args.json:
        total = sum(entry.bytes for entry in done) / 2**20
        print(printable(f"{cache_folder()}: {len(done)} entries, {total:.1f} MiB"))
