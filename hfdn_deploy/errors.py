"""The exception tree. Every message says what is wrong, why, and what to do next.

HFDNError                   exit code 1
    ├── PartialError            1   some images of a run failed, the others were written
    ├── InputError              2   a file, an array or an argument is not usable
    │   ├── CheckpointError     2   a checkpoint does not hold the expected network
    │   └── BundleError         2   a bundle is incomplete, changed or of a newer schema
    ├── GateError               3   a quality or parity gate failed
    ├── BackendError            4   the requested backend cannot run here
    └── EngineError             5   an engine does not fit, is damaged or is not trusted
"""

from collections.abc import Iterator
from contextlib import contextmanager


class HFDNError(Exception):
    """Base of all errors that hfdn_deploy raises on purpose, with the exit code of the CLI."""

    exit_code = 1

    def __init__(self, reason: str, advice: str = "") -> None:
        """Make an error.

        Args:
            reason: what is wrong and why; the complete message if there is no `advice`.
            advice: what to do next.
        """
        super().__init__(f"{reason}; {advice}." if advice else reason)
        self.reason = reason.rstrip(".")
        self.advice = advice


class PartialError(HFDNError):
    """Some of several images failed; the others were written."""


class InputError(HFDNError):
    """A file, an array or an argument is not usable as given."""

    exit_code = 2


class CheckpointError(InputError):
    """A checkpoint is unreadable or does not hold the requested network."""


class BundleError(InputError):
    """A bundle is incomplete, changed since it was exported, or of a newer schema."""


class GateError(HFDNError):
    """A quality or parity gate failed: the result exists but must not be used."""

    exit_code = 3


class BackendError(HFDNError):
    """The requested backend is not installed or cannot run on this machine."""

    exit_code = 4


class EngineError(HFDNError):
    """An engine was built for another system, was changed, or is not known to be the user's own."""

    exit_code = 5


@contextmanager
def named(source: object) -> Iterator[None]:
    """Prefix an InputError raised in the block with the file's name."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{source}: {error}") from None


def first_line(error: Exception) -> str:
    """Return the first line of an exception's message without its full stop."""
    return str(error).strip().partition("\n")[0].rstrip(".")
