"""The exception tree. Every message says what is wrong, why, and what to do next.

HFDNError                   exit code 1
    ├── PartialError            1   some images of a run failed, the others are done
    ├── InputError              2   a file, an array or an argument is not usable
    │   ├── CheckpointError     2   a checkpoint does not hold the network it should
    │   └── BundleError         2   a bundle is incomplete, changed or from a newer version
    ├── GateError               3   a quality or parity gate failed
    ├── BackendError            4   the backend asked for cannot run here
    └── EngineError             5   an engine is stale, foreign, damaged or not trusted
"""

from collections.abc import Iterator
from contextlib import contextmanager


class HFDNError(Exception):
    """Base of all errors that hfdn_deploy raises on purpose; `exit_code` is the CLI's."""

    exit_code = 1

    def __init__(self, reason: str, advice: str = "") -> None:
        """Make an error.

        Args:
            reason: what is wrong and why; the whole sentence where there is no `advice`.
            advice: what to do next.
        """
        super().__init__(f"{reason}; {advice}." if advice else reason)
        self.reason = reason.rstrip(".")
        self.advice = advice


class PartialError(HFDNError):
    """Some of several images failed; the others are done."""


class InputError(HFDNError):
    """A file, an array or an argument is not usable as given."""

    exit_code = 2


class CheckpointError(InputError):
    """A checkpoint is unreadable or holds another network than the one asked for."""


class BundleError(InputError):
    """A bundle is incomplete, changed since it was exported, or of a newer schema."""


class GateError(HFDNError):
    """A quality or parity gate failed: the result exists but must not be used."""

    exit_code = 3


class BackendError(HFDNError):
    """The backend asked for is not installed or cannot run on this machine."""

    exit_code = 4


class EngineError(HFDNError):
    """An engine was built for something else, was changed, or is not known to be the user's own."""

    exit_code = 5


@contextmanager
def named(source: object) -> Iterator[None]:
    """Prefix an InputError raised in the block with the file's name."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{source}: {error}") from None


def first_line(error: Exception) -> str:
    """Return the first line of an exception's message, to stand in a sentence."""
    return str(error).strip().partition("\n")[0].rstrip(".")
