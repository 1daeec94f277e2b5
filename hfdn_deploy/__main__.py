"""`hfdn`, and `python -m hfdn_deploy`."""

import os
import sys

from hfdn_deploy.command import end_when_interrupted


def main() -> int:
    """Run the command line; returns the exit code."""
    _open_standard_streams()
    end_when_interrupted()
    from hfdn_deploy.cli import main as run  # takes a second

    return run()


def _open_standard_streams() -> None:
    """Give those that are closed (`>&-`) to nobody: else a file that is opened would be one."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


if __name__ == "__main__":
    sys.exit(main())
