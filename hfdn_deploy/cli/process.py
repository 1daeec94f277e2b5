"""What every command line here shares: errors become one sentence and an exit code."""

import io
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from hfdn_deploy.cli.printing import printable
from hfdn_deploy.errors import HFDNError, InputError, PartialError
from hfdn_deploy.interruption import INTERRUPTED, interruptible, report_interruption

BROKEN_PIPE = 141


def start(module: str) -> int:
    """Import a command line, which may take seconds, and run its `main` on the process's arguments.

    Returns:
        The exit code, as for `run_command`.
    """
    _open_standard_streams()
    return run_command(lambda: import_module(module).main(sys.argv[1:]))


def _open_standard_streams() -> None:
    """Give those that are closed (`>&-`) to nobody: else a file that is opened would be one."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def run_command(command: Callable[[], int | None]) -> int:
    """Run a command from the main thread.

    Returns:
        The exit code: the command's own or 0, an error's own, 130 after SIGINT, SIGTERM or SIGHUP,
        or 141 if nobody reads the output any more.
    """
    # A name that the terminal cannot show is no reason to fail.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with interruptible():
            code = command()
            sys.stdout.flush()
        return code or 0
    except HFDNError as error:
        print(f"error: {printable(error)}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # Or the interpreter would complain when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        print(f"error: {printable(error)}; check the path and the disk.", file=sys.stderr)
        return InputError.exit_code
    except KeyboardInterrupt:
        report_interruption()
        return INTERRUPTED


def report_failures(errors: Sequence[object], number: int) -> None:
    """Say which of so many images failed, if any.

    Raises:
        PartialError: some did.
    """
    for error in errors:
        print(f"failed: {printable(error)}", file=sys.stderr)
    if errors:
        others = "; the others are written, and --resume will skip them" * (len(errors) < number)
        raise PartialError(f"{len(errors)} of {number} failed, see above{others}.")
