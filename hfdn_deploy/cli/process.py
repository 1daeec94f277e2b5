"""What every command line here shares: errors become one sentence and an exit code."""

import argparse
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from types import FrameType

from hfdn_deploy.errors import HFDNError, InputError, PartialError
from hfdn_deploy.interruption import on_interruption

INTERRUPTED = 130
BROKEN_PIPE = 141

_INTERRUPTION = "interrupted; nothing half-written is left."


def start(module: str) -> int:
    """Import a command line, which takes seconds, and run its `main` on the process's arguments.

    Returns:
        The exit code, as for `run_command`.
    """
    _open_standard_streams()
    _end_when_interrupted()
    return int(import_module(module).main(sys.argv[1:]))


def _open_standard_streams() -> None:
    """Give those that are closed (`>&-`) to nobody: else a file that is opened would be one."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def _end_when_interrupted() -> None:
    """Until `run_command` runs, have ctrl-C and the like end the process with a sentence.

    Nothing has begun by then, and a KeyboardInterrupt may come out of an import as another error.
    """

    def end(number: int, frame: FrameType | None) -> None:
        print(_INTERRUPTION, file=sys.stderr, flush=True)
        os._exit(INTERRUPTED)

    on_interruption(end)


def run_command(command: Callable[[], None]) -> int:
    """Run a command from the main thread.

    Returns:
        The exit code: 0, an error's own, 130 after ctrl-C and the like, or 141 where nobody
        reads the output any more.
    """
    on_interruption(signal.default_int_handler)
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
        print(_INTERRUPTION, file=sys.stderr)
        return INTERRUPTED
    return 0


def positive(text: str) -> int:
    """An argument that is a whole number above 0.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def report_failures(errors: Sequence[object], number: int) -> None:
    """Say which of so many images failed, if any.

    Raises:
        PartialError: some did.
    """
    for error in errors:
        print(f"failed: {error}", file=sys.stderr)
    if errors:
        others = "; the others are written, and --resume will skip them" * (len(errors) < number)
        raise PartialError(f"{len(errors)} of {number} failed, see above{others}.")
