"""Checked CUDA calls through cuda-bindings, the current device, and contexts of threads."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from threading import RLock
from types import ModuleType
from typing import Any

from hfdn_deploy.errors import BackendError
from hfdn_deploy.interruption import deferred


class CudaError(BackendError):
    """A CUDA call failed; `status` is the name of the error."""

    def __init__(self, function: str, status: str, description: str) -> None:
        super().__init__(f"{function} failed: {description} ({status})", self._advice)
        self.status = status

    _advice = "see `hfdn doctor`"


class ContextLostError(CudaError):
    """Work on the GPU failed, and every further CUDA call of this process will fail."""

    _advice = "the process cannot use the GPU any more: restart it"


# Errors that break a context, according to the documentation of `cudaError_t`; the driver uses the
# same numbers.
_FATAL = {
    214,  # uncorrectable ECC error
    220,  # uncorrectable NVLink error
    226,  # contained ECC error
    700,  # illegal address
    702,  # launch timed out
    709,  # context is destroyed
    710,  # assertion
    *range(714, 720),  # stack, instruction, misaligned address, address space, PC, launch failure
    721,  # tensor memory leak
    810,  # MPS client was terminated
}
_lost: list[str] = []


def why_lost() -> str:
    """Return why CUDA needs a restart of this process; empty if it does not."""
    return _lost[0] if _lost else ""


def call(function: str, *arguments: Any) -> Any:
    """Call a function of the CUDA runtime.

    Returns:
        The function's result: a tuple if there are several, None if there are none.

    Raises:
        CudaError: the call failed.
        ContextLostError: the call failed, and so will all others.
        BackendError: cuda-bindings is not installed.
    """
    runtime = _bindings("runtime")
    return _checked(function, getattr(runtime, function)(*arguments), runtime.cudaGetErrorString)


def _driver(function: str, *arguments: Any) -> Any:
    driver = _bindings("driver")
    return _checked(function, getattr(driver, function)(*arguments), driver.cuGetErrorString)


@cache
@deferred()
def _bindings(name: str) -> ModuleType:
    try:
        return import_module(f"cuda.bindings.{name}")
    except (ImportError, OSError) as error:
        raise BackendError(
            f"CUDA cannot be called ({error}): pip install 'hfdn-deploy[rtx]'."
        ) from None


def _checked(function: str, answer: tuple[Any, ...], describe: Any) -> Any:
    status, *results = answer
    if int(status) != 0:
        _, text = describe(status)
        fatal = int(status) in _FATAL
        kind = ContextLostError if fatal else CudaError
        error = kind(function, status.name, (text or b"unknown error").decode())
        if fatal and not _lost:
            _lost.append(str(error))
        raise error
    return results[0] if len(results) == 1 else tuple(results) or None


def check_context() -> None:
    """Raise ContextLostError if CUDA is lost; for use after a failure of a library that uses it."""
    call("cudaFree", 0)


@dataclass(frozen=True)
class Device:
    """The current CUDA device."""

    name: str
    target: str
    """Compute capability, such as "sm89"."""
    driver: str
    """Newest CUDA version that the driver supports."""
    runtime: str
    """Version of the CUDA runtime in use."""

    @classmethod
    def current(cls) -> "Device":
        """Return the current device of this thread.

        Raises:
            BackendError: there is no device or no driver.
            ContextLostError: this process cannot use the device any more.
        """
        try:
            if call("cudaGetDeviceCount") == 0:
                raise BackendError("there is no CUDA device here.")
            index = call("cudaGetDevice")
        except ContextLostError:
            raise
        except CudaError as error:
            raise BackendError(
                f"there is no CUDA device here, or its driver is too old: {error.reason}."
            ) from None
        properties = call("cudaGetDeviceProperties", index)
        return cls(
            name=properties.name.rstrip(b"\0").decode(),
            target=f"sm{properties.major}{properties.minor}",
            driver=_version(call("cudaDriverGetVersion")),
            runtime=_version(call("cudaRuntimeGetVersion")),
        )


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def member(enumeration: str, name: str) -> Any:
    """Return a member of an enumeration of the CUDA runtime."""
    return getattr(getattr(_bindings("runtime"), enumeration), name)


@contextmanager
def context(handle: Any) -> Iterator[None]:
    """Make a CUDA context current in this thread for the block, then restore the previous one."""
    before = _driver("cuCtxGetCurrent")
    _driver("cuCtxSetCurrent", handle)
    try:
        yield
    finally:
        _driver("cuCtxSetCurrent", before)


def current_context() -> Any:
    """Return the current context: PyCUDA's if active, else the device's primary one."""
    check_context()  # makes the primary context current if none is
    return _driver("cuCtxGetCurrent")


def is_primary(handle: Any) -> bool:
    """Return whether a context is the device's primary one, which lasts as long as the process."""
    device = call("cudaGetDevice")
    _, active = _driver("cuDevicePrimaryCtxGetState", device)
    if not active:  # retaining it would create it
        return False
    primary = _driver("cuDevicePrimaryCtxRetain", device)
    _driver("cuDevicePrimaryCtxRelease", device)
    return int(primary) == int(handle)


_locks: dict[int, RLock] = {}


def lock_of(handle: Any) -> RLock:
    """Return the lock of a CUDA context, held during captures and by all that would disturb them.

    Calls that synchronize the device disturb them, as may TensorRT when it makes a context.
    """
    return _locks.setdefault(int(handle), RLock())
