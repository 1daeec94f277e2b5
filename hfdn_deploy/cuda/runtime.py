"""CUDA through cuda-bindings: every call checked, memory owned, arrays of others understood."""

import ctypes
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from hfdn_deploy.errors import BackendError, InputError
from hfdn_deploy.interruption import deferred


class CudaError(BackendError):
    """A CUDA call failed; `status` is the name of its error."""

    def __init__(self, function: str, status: str, description: str) -> None:
        super().__init__(f"{function} failed: {description} ({status}); see `hfdn doctor`.")
        self.status = status


def call(function: str, *arguments: Any) -> Any:
    """Call a function of the CUDA runtime.

    Returns:
        Its result, a tuple if there are several, None if there is none.

    Raises:
        CudaError: it did not succeed.
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
        raise CudaError(function, status.name, (text or b"unknown error").decode())
    return results[0] if len(results) == 1 else tuple(results) or None


@dataclass(frozen=True)
class Device:
    """The current CUDA device."""

    name: str
    target: str
    """Its compute capability, such as "sm89"."""
    driver: str
    """Newest CUDA version that the driver supports."""
    runtime: str
    """Version of the CUDA runtime in use."""

    @classmethod
    def current(cls) -> "Device":
        """The device that calls from this thread go to.

        Raises:
            BackendError: there is none, or no driver.
        """
        try:
            if call("cudaGetDeviceCount") == 0:
                raise BackendError("there is no CUDA device here.")
            index = call("cudaGetDevice")
        except CudaError as error:
            raise BackendError(
                "there is no CUDA device here, or its driver is too old: "
                f"{str(error).partition(';')[0]}."
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


class Buffer:
    """Memory that grows to the largest size asked for and is freed by `close`.

    Args:
        pinned: on the host, page-locked; else on the device.
    """

    def __init__(self, pinned: bool = False) -> None:
        self.pinned = pinned
        self.pointer = 0
        self.size = 0

    def reserve(self, size: int) -> int:
        """Have room for `size` bytes; the address, which changes where the buffer grows."""
        if size > self.size:
            self.close()
            self.pointer = int(call("cudaMallocHost" if self.pinned else "cudaMalloc", size))
            self.size = size
        return self.pointer

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
        """The start of a pinned buffer as an array, without a copy."""
        count = int(np.prod(shape)) * dtype.itemsize
        raw = (ctypes.c_byte * count).from_address(self.reserve(count))
        return np.ctypeslib.as_array(raw).view(dtype).reshape(shape)

    def close(self) -> None:
        """Free the memory."""
        if self.pointer:
            pointer, self.pointer, self.size = self.pointer, 0, 0
            call("cudaFreeHost" if self.pinned else "cudaFree", pointer)


class DeviceArray:
    """An array on the device that owns its memory; CuPy, torch and others take it as it is."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape = shape
        self.dtype = dtype
        self._context = current_context()
        self._buffer = Buffer()
        self._buffer.reserve(int(np.prod(shape)) * dtype.itemsize)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Version 3 of the protocol; nothing is pending, so no stream is named."""
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self._buffer.pointer, False),
            "strides": None,
            "version": 3,
            "stream": None,
        }

    def __del__(self) -> None:
        # At the interpreter's end the context may be gone, and its memory with it.
        with suppress(BackendError), context(self._context):
            self._buffer.close()


def member(enumeration: str, name: str) -> Any:
    """A member of an enumeration of the CUDA runtime."""
    return getattr(getattr(_bindings("runtime"), enumeration), name)


def like(given: object, result: Any) -> Any:
    """Our array as the kind that was given, where that is PyCUDA's; any other as it is."""
    if type(given).__module__ != "pycuda.gpuarray" or not isinstance(result, DeviceArray):
        return result
    gpuarray = import_module("pycuda.gpuarray")
    pointer = result.__cuda_array_interface__["data"][0]
    return gpuarray.GPUArray(result.shape, result.dtype, gpudata=pointer, base=result)


def is_device_array(array: object) -> bool:
    """Whether this is an array on a device: PyCUDA's, CuPy's, torch's, ours."""
    return hasattr(array, "__cuda_array_interface__")


def borrow(array: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """The address of somebody's array, after what they have under way with it.

    Raises:
        InputError: it has another shape or dtype, or gaps.
    """
    interface = array.__cuda_array_interface__
    given = tuple(interface["shape"]), np.dtype(interface["typestr"])
    strides = tuple(dtype.itemsize * math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    gaps = interface.get("strides") not in (None, strides)
    if given != (shape, dtype) or gaps:
        raise InputError(
            f"the device array is {given[1]} {given[0]}{' with gaps' * gaps}; give a contiguous "
            f"{dtype} array {shape}."
        )
    # Most libraries do not say on which stream they are working.
    if stream := interface.get("stream"):
        call("cudaStreamSynchronize", stream)
    else:
        call("cudaDeviceSynchronize")
    return int(interface["data"][0])


@contextmanager
def context(handle: Any) -> Iterator[None]:
    """Make a CUDA context current in this thread, and afterwards the one that was."""
    before = _driver("cuCtxGetCurrent")
    _driver("cuCtxSetCurrent", handle)
    try:
        yield
    finally:
        _driver("cuCtxSetCurrent", before)


def current_context() -> Any:
    """The context that calls go to: PyCUDA's if that is active, else the device's primary one."""
    call("cudaFree", 0)  # makes the primary context where none is current
    return _driver("cuCtxGetCurrent")
