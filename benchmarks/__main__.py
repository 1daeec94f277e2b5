"""`python -m benchmarks`."""

import sys

from hfdn_deploy.cli import start

if __name__ == "__main__":
    sys.exit(start("benchmarks.cli"))
