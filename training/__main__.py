"""`python -m training`."""

import sys

from hfdn_deploy.command import start

if __name__ == "__main__":
    sys.exit(start("training.cli"))
