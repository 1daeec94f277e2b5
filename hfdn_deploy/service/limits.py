"""Limits on requests, and the refusals of requests that exceed them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from hfdn_deploy.errors import HFDNError, InputError

MEBI = 2**20
# The longest wait, in seconds, that all timers support.
_LONGEST = 1e6


class RequestError(HFDNError):
    """A request that is answered with an HTTP error status instead of an image."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


@dataclass(frozen=True)
class Limits:
    """Limits on one request and on concurrent requests."""

    body_bytes: int = 16 * MEBI
    """Bytes of a request's body."""
    pixels: int = 4 * MEBI
    """Pixels of an input image."""
    output_pixels: int = 64 * MEBI
    """Pixels of an output image."""
    queue: int = 32
    """Concurrent images, from decoding to the answer."""
    uploads: int = 64
    """Concurrent uploads of bodies."""
    connections: int = 512
    """Concurrent connections, including idle ones."""
    upload_seconds: float = 15.0
    """Time to send a request, and the longest pause of a client in reading the answer."""
    answer_seconds: float = 60.0
    """Time for an image to wait and be upscaled."""
    shutdown_seconds: float = 10.0
    """Time from the signal to the end of the process; most of it is left to running jobs."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise InputError(f"the limit {name} is {value}; it must be greater than 0.")
            if name.endswith("seconds") and value > _LONGEST:
                raise InputError(f"the limit {name} is {value}; it must be at most {_LONGEST:g}.")

    def check_size(self, width: int, height: int, scale: int) -> None:
        """Refuse an image that is too large, by the size in its header.

        Raises:
            RequestError: 413, the image or its result has too many pixels.
        """
        for what, pixels, most in (
            ("", width * height, self.pixels),
            (f" at scale {scale}", width * height * scale**2, self.output_pixels),
        ):
            if pixels > most:
                raise RequestError(
                    413,
                    f"the image has {width}×{height} pixels, {pixels:,}{what}, and {most:,} are "
                    "the limit; send a smaller image.",
                )


@dataclass
class Admission:
    """A bound on concurrent requests, which refuses the excess; for one event loop."""

    what: str
    """The plural noun for error messages, such as "images"."""
    capacity: int
    inside: int = field(default=0, init=False)

    def check(self, retry_after: int) -> None:
        """Refuse a request if the capacity is used up.

        Args:
            retry_after: seconds after which a client should retry.

        Raises:
            RequestError: 429, the capacity is used up.
        """
        if self.inside >= self.capacity:
            raise RequestError(
                429,
                f"{self.inside} {self.what} are being served; try again in {retry_after} s.",
                {"Retry-After": str(retry_after)},
            )

    @contextmanager
    def entered(self, retry_after: int) -> Iterator[None]:
        """Count one request inside for the length of the block; raise as `check` does."""
        self.check(retry_after)
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1
