"""`python -m export`."""

import sys

from hfdn_deploy.cli import start

if __name__ == "__main__":
    sys.exit(start("export.cli"))
