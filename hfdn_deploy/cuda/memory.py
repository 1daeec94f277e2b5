"""Memory of a GPU and page-locked memory: owned, kept for the next array, or borrowed."""

import ctypes
import math
from collections import deque
from contextlib import suppress
from importlib import import_module
from typing import Any

import numpy as np

from hfdn_deploy.cuda.runtime import CudaError, call, context
from hfdn_deploy.errors import BackendError, InputError

LEGACY_STREAM = 1
"""The default stream of libraries that name none; also of PyTorch."""

# Results that a caller is done with, kept for the next ones.
_KEPT = 4


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
        count = math.prod(shape) * dtype.itemsize
        raw = (ctypes.c_byte * count).from_address(self.reserve(count))
        return np.ctypeslib.as_array(raw).view(dtype).reshape(shape)

    def close(self) -> None:
        """Free the memory."""
        if self.pointer:
            pointer, self.pointer, self.size = self.pointer, 0, 0
            call("cudaFreeHost" if self.pinned else "cudaFree", pointer)


class Pool:
    """Device memory for results, used again when their arrays are gone.

    Who takes memory from it must let its own stream wait for the legacy default stream, on which
    the former owner may have work under way. `take` and `close` must not be called at the same
    time.
    """

    def __init__(self, handle: Any) -> None:
        """Make an empty pool of a CUDA context."""
        self._context = handle
        self._free: deque[Buffer] = deque()
        self._closed = False

    def take(self, size: int) -> Buffer:
        """Return memory of at least `size` bytes, in the current context.

        Raises:
            CudaError: there is not enough device memory.
        """
        fitting = [buffer for buffer in list(self._free) if size <= buffer.size <= 2 * size]
        if fitting:
            best = min(fitting, key=lambda buffer: buffer.size)
            self._free.remove(best)
            return best
        self._shrink(_KEPT)
        buffer = Buffer()
        try:
            buffer.reserve(size)
        except CudaError:
            self._shrink(0)
            buffer.reserve(size)
        return buffer

    def give(self, buffer: Buffer) -> None:
        """Take memory back, also in a finalizer: CUDA is not called before the pool is closed."""
        self._free.append(buffer)
        if self._closed:
            # At the interpreter's end the context may be gone, and its memory with it.
            with suppress(BackendError), context(self._context):
                self._shrink(0)

    def _shrink(self, most: int) -> None:
        """Free the oldest, as far as there are more than `most`."""
        with suppress(IndexError):  # another thread may take the last one
            while len(self._free) > most:
                buffer = self._free.popleft()
                try:
                    call("cudaStreamSynchronize", LEGACY_STREAM)
                finally:
                    buffer.close()

    def close(self) -> None:
        """Free what is in it, and from now on what comes back."""
        self._closed = True
        self._shrink(0)


class DeviceArray:
    """An array on the device that owns its memory; CuPy, torch and others take it as it is.

    Work that reads it on another stream than the legacy default one must be over before the array
    is dropped.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], pool: Pool) -> None:
        self.shape = shape
        self.dtype = dtype
        self._pool = pool
        self._buffer = pool.take(math.prod(shape) * dtype.itemsize)

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
        if hasattr(self, "_buffer"):  # else there was no memory for it
            self._pool.give(self._buffer)


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
        CudaError: their work failed, or a stream captures while an array names no stream.
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
    if interface.get("version", 0) < 3:
        # Before version 3 the protocol has no word for the stream that an array is written on.
        call("cudaDeviceSynchronize")
    elif (stream := interface.get("stream")) is not None:
        call("cudaStreamSynchronize", stream)
    return int(interface["data"][0])
