"""What every command line here shares: errors become one sentence and an exit code."""

import sys
from collections.abc import Callable

from hfdn_deploy.errors import HFDNError

INTERRUPTED = 130


def run_command(command: Callable[[], None]) -> int:
    """Run a command; returns its exit code: 0, an error's own, or 130 after ctrl-C."""
    try:
        command()
    except HFDNError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; nothing half-written is left.", file=sys.stderr)
        return INTERRUPTED
    return 0
