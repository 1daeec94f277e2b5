"""What a request may cost, and how one is refused that wants more."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from hfdn_deploy.errors import HFDNError, InputError

MEBI = 2**20
# Seconds that every clock here can wait for.
_LONGEST = 1e6


class RequestError(HFDNError):
    """A request that is answered with an HTTP status instead of a picture."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


@dataclass(frozen=True)
class Limits:
    """Bounds on a request and on all of them together."""

    body_bytes: int = 16 * MEBI
    """Of one request."""
    pixels: int = 4 * MEBI
    """Of a picture that comes in."""
    output_pixels: int = 64 * MEBI
    """Of a picture that goes out."""
    queue: int = 32
    """Pictures between decoding and the answer, at once."""
    uploads: int = 64
    """Bodies being received at once."""
    connections: int = 512
    """At once, idle ones included."""
    upload_seconds: float = 15.0
    """For a client to send its request, and the longest pause in taking the answer."""
    answer_seconds: float = 60.0
    """For an image to wait and be upscaled."""
    shutdown_seconds: float = 10.0
    """From the signal to the end of the process, whatever runs; most of it to finish that."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise InputError(f"the limit {name} is {value}; it must be more than 0.")
            if name.endswith("seconds") and value > _LONGEST:
                raise InputError(f"the limit {name} is {value}; it must be at most {_LONGEST:g}.")

    def check_size(self, width: int, height: int, scale: int) -> None:
        """Refuse a picture for its size, known from its header.

        Raises:
            RequestError: 413, too many pixels in or out.
        """
        for what, pixels, most in (
            ("", width * height, self.pixels),
            (f" at scale {scale}", width * height * scale**2, self.output_pixels),
        ):
            if pixels > most:
                raise RequestError(
                    413,
                    f"the picture has {width}×{height} pixels, {pixels:,}{what}, and {most:,} are "
                    "the limit; send a smaller one.",
                )


@dataclass
class Admission:
    """Lets so many in at once and turns the others away; for one event loop."""

    what: str
    """That which is inside, in the plural."""
    capacity: int
    inside: int = field(default=0, init=False)

    def check(self, retry_after: int) -> None:
        """Refuse if the gate is full.

        Args:
            retry_after: seconds after which it may pay to come again.

        Raises:
            RequestError: 429.
        """
        if self.inside >= self.capacity:
            raise RequestError(
                429,
                f"{self.inside} {self.what} are being served; try again in {retry_after} s.",
                {"Retry-After": str(retry_after)},
            )

    @contextmanager
    def entered(self, retry_after: int) -> Iterator[None]:
        """Be inside for the length of the block; raises as `check`."""
        self.check(retry_after)
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1
