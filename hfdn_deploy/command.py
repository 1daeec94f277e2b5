"""What every command line here shares: errors become one sentence and an exit code."""

import io
import os
import signal
import sys
from collections.abc import Callable, Sequence

from hfdn_deploy.errors import HFDNError, InputError, PartialError

INTERRUPTED = 130
BROKEN_PIPE = 141


def run_command(command: Callable[[], None]) -> int:
    """Run a command from the main thread.

    Returns:
        The exit code: 0, an error's own, 130 after ctrl-C or SIGTERM, or 141 where nobody
        reads the output any more.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A name that the terminal cannot show is no reason to fail.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        command()
        sys.stdout.flush()
    except HFDNError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # Or the interpreter would complain when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        print(f"error: {error}; check the path and the disk.", file=sys.stderr)
        return InputError.exit_code
    except KeyboardInterrupt:
        print("interrupted; nothing half-written is left.", file=sys.stderr)
        return INTERRUPTED
    return 0


def report_failures(errors: Sequence[object], number: int) -> None:
    """Say which of so many images failed, if any.

    Raises:
        PartialError: some did.
    """
    for error in errors:
        print(f"failed: {error}", file=sys.stderr)
    if errors:
        raise PartialError(
            f"{len(errors)} of {number} images failed, see above; "
            "the others are written, and --resume will skip them."
        )
