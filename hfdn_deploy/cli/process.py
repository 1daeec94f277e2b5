"""The process of a command line: errors become one sentence and an exit code."""

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
    """Import a command line, which may take seconds, and run its `main` with `sys.argv`.

    Returns:
        The exit code, as for `run_command`.
    """
    _open_standard_streams()
    return run_command(lambda: import_module(module).main(sys.argv[1:]))


def _open_standard_streams() -> None:
    """Open closed streams (`>&-`) on the null device, or the next open file would be one."""
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
        or 141 if the reader of the output has closed the pipe.
    """
    # The terminal may be unable to show the name of a file.
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
        # Without this, the interpreter would report an error when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        print(f"error: {printable(error)}; check the path and the disk.", file=sys.stderr)
        return InputError.exit_code
    except KeyboardInterrupt:
        report_interruption()
        return INTERRUPTED


def report_failures(errors: Sequence[object], number: int) -> None:
    """Print which of `number` images failed.

    Raises:
        PartialError: an image failed.
    """
    for error in errors:
        print(f"failed: {printable(error)}", file=sys.stderr)
    if errors:
        others = "; the others are written, and --resume will skip them" * (len(errors) < number)
        raise PartialError(f"{len(errors)} of {number} failed, see above{others}.")
