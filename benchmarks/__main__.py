"""`python -m benchmarks`."""

import sys

from hfdn_deploy.command import start

if __name__ == "__main__":
    sys.exit(start("benchmarks.cli"))
