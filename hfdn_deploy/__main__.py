"""`hfdn`, and `python -m hfdn_deploy`."""

import sys

from hfdn_deploy.cli import start


def main() -> int:
    """Run the command line; returns the exit code."""
    return start("hfdn_deploy.cli.commands")


if __name__ == "__main__":
    sys.exit(main())
