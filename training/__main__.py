"""`python -m training`."""

import sys

from hfdn_deploy.cli import start

if __name__ == "__main__":
    sys.exit(start("training.cli"))
