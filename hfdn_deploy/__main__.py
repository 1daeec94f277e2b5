"""`hfdn`, and `python -m hfdn_deploy`."""

import sys

from hfdn_deploy.command import end_when_interrupted


def main() -> int:
    """Run the command line; returns the exit code."""
    end_when_interrupted()
    from hfdn_deploy.cli import main as run  # takes a second

    return run()


if __name__ == "__main__":
    sys.exit(main())
