"""Memory of a GPU and page-locked memory: owned, kept for the next array, or borrowed."""

import math
import sys
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfdn_deploy.cuda.dlpack import CUDA, LEGACY_STREAM, Taken, array_at, interface, lend
from hfdn_deploy.cuda.runtime import CudaError, call, context, is_primary
from hfdn_deploy.errors import BackendError, InputError, first_line

# Results that a caller is done with, kept for the next ones.
_KEPT = 4
HELD = 16
"""Page-locked results that callers may hold: a machine has no other use for such memory."""


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

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """The start of a pinned buffer as an array, without a copy."""
        address = self.reserve(math.prod(shape) * dtype.itemsize)
        return array_at(None, address, shape, dtype)

    def close(self) -> None:
        """Free the memory."""
        if self.pointer:
            pointer, self.pointer, self.size = self.pointer, 0, 0
            call("cudaFreeHost" if self.pinned else "cudaFree", pointer)


class Pool:
    """Memory for results, on the device or page-locked, used again when their arrays are gone.

    Who takes device memory from it must let its own stream wait for the legacy default stream, on
    which the former owner may have work under way. `take` and `close` must not be called at the
    same time.
    """

    def __init__(self, handle: Any, pinned: bool = False) -> None:
        """Make an empty pool of a CUDA context, which is current."""
        self._context = handle
        self._pinned = pinned
        # A context of the caller's own may be destroyed, and page-locked memory goes with it.
        self.lent = HELD if pinned and not is_primary(handle) else 0
        """How many results hold memory of it, about, or too many if none may."""
        self.device = int(call("cudaGetDevice"))
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
            self.lent += 1
            return best
        self._shrink(_KEPT)
        buffer = Buffer(self._pinned)
        try:
            buffer.reserve(size)
        except CudaError:
            self._shrink(0)
            buffer.reserve(size)
        self.lent += 1
        return buffer

    def give(self, buffer: Buffer) -> None:
        """Take memory back, also in a finalizer: CUDA is not called before the pool is closed."""
        self.lent -= 1
        self._free.append(buffer)
        if self._closed:
            # At the interpreter's end the context may be gone, or the driver.
            with suppress(BackendError, RuntimeError), context(self._context):
                self._shrink(0)

    def _shrink(self, most: int) -> None:
        """Free the oldest, as far as there are more than `most`."""
        # Another thread may take the last one.
        with ExitStack() as each, suppress(IndexError):
            while len(self._free) > most:
                each.callback(self._free.popleft().close)
                # Called before that, as the last in is the first out.
                each.callback(call, "cudaStreamSynchronize", LEGACY_STREAM)

    def close(self) -> None:
        """Free what is in it, and from now on what comes back."""
        self._closed = True
        self._shrink(0)


class _Lent:
    """Memory of a pool, which goes back when nobody refers to this."""

    def __init__(self, pool: Pool, size: int) -> None:
        self._pool = pool
        self._buffer = pool.take(size)
        self.pointer = self._buffer.pointer

    def __del__(self, ends: Callable[[], bool] = sys.is_finalizing) -> None:
        if hasattr(self, "_buffer") and not ends():  # else there was no memory for it
            self._pool.give(self._buffer)


def host_array(shape: tuple[int, ...], dtype: np.dtype[Any], pool: Pool) -> NDArray[Any]:
    """An array in the page-locked memory of a pool, which goes back with it."""
    memory = _Lent(pool, math.prod(shape) * dtype.itemsize)
    return array_at(memory, memory.pointer, shape, dtype)


class DeviceView:
    """A contiguous array on a device for whatever library takes it: CuPy, torch, TensorFlow."""

    def __init__(
        self, owner: Any, address: int, shape: tuple[int, ...], dtype: np.dtype[Any], device: int
    ) -> None:
        """Describe the memory of an owner, who is kept as long; nothing is pending on it."""
        self._owner, self._address = owner, address
        self.shape, self.dtype, self.device = shape, dtype, device
        self.pending: dict[str, Any] = {}
        """Version and stream of the interface of an owner on whose memory work may be pending."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Version 3 of the protocol, or the owner's."""
        return interface(self._address, self.shape, self.dtype) | self.pending

    def __dlpack__(self, **_: Any) -> Any:
        """A capsule, good on any stream."""
        return lend(self, self._address, self.shape, self.dtype, self.__dlpack_device__())

    def __dlpack_device__(self) -> tuple[int, int]:
        """Kind and index of the device."""
        return CUDA, self.device


class DeviceArray(DeviceView):
    """An array on the device that owns its memory.

    Work that reads it on another stream than the legacy default one must be over before the array
    is dropped.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], pool: Pool) -> None:
        memory = _Lent(pool, math.prod(shape) * dtype.itemsize)
        super().__init__(memory, memory.pointer, shape, dtype, pool.device)


def like(given: object, result: Any) -> Any:
    """Our array as the kind that was given, where that is PyCUDA's; any other as it is."""
    if not _is_pycuda(given) or not isinstance(result, DeviceArray):
        return result
    gpuarray = import_module("pycuda.gpuarray")
    pointer = result.__cuda_array_interface__["data"][0]
    return gpuarray.GPUArray(result.shape, result.dtype, gpudata=pointer, base=result)


def _is_pycuda(array: object) -> bool:
    return type(array).__module__ == "pycuda.gpuarray"


def is_device_array(array: object) -> bool:
    """Whether this is an array on a CUDA device: PyCUDA's, CuPy's, torch's, TensorFlow's, ours."""
    if hasattr(array, "__cuda_array_interface__"):
        return True
    try:
        kind, _ = array.__dlpack_device__()  # type: ignore[attr-defined]
    except Exception:  # such as AttributeError; some libraries have devices that DLPack has not
        return False
    return bool(kind == CUDA)


def as_device_array(array: Any) -> Any:
    """An array on a device with `__cuda_array_interface__`, by way of DLPack if it has none.

    Raises:
        InputError: it has neither as they should be, or says to be on another device.
    """
    try:
        if not hasattr(array, "__cuda_array_interface__"):
            array = Taken(array.__dlpack__(stream=LEGACY_STREAM))
            if array.device[0] != CUDA or not array.address:
                raise InputError("the array is not where it says", "copy it to the host")
        given = array.__cuda_array_interface__
        tuple(given["shape"]), np.dtype(given["typestr"]), int(given["data"][0])
    except InputError:
        raise
    except Exception as error:  # of whatever library
        reason = f"the array on the device cannot be taken ({first_line(error)})"
        raise InputError(reason, "copy it to the host") from None
    return array


def view(array: Any, shape: tuple[int, ...]) -> DeviceView:
    """The memory of a contiguous array on a device in another shape of the same size.

    Whoever borrows it waits for what is pending, as for the array itself.

    Raises:
        InputError: it has gaps.
    """
    owner = as_device_array(array)
    given = _interface(owner)
    dtype = np.dtype(given["typestr"])
    address = _address(given, tuple(given["shape"]), dtype)
    made = DeviceView(owner, address, shape, dtype, int(call("cudaGetDevice")))
    made.pending = {key: given[key] for key in ("version", "stream") if key in given}
    return made


def borrow(array: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """The address of somebody's array, after what they have under way with it.

    Raises:
        InputError: it has another shape or dtype, or gaps.
        CudaError: their work failed, or a stream captures while an array names no stream.
    """
    given = _interface(array)
    address = _address(given, shape, dtype)
    if given.get("version", 0) < 3:
        # Before version 3 the protocol has no word for the stream that an array is written on.
        call("cudaDeviceSynchronize")
    elif (stream := given.get("stream")) is not None:
        call("cudaStreamSynchronize", stream)
    return address


def _interface(array: Any) -> Mapping[str, Any]:
    """The interface of an array; PyCUDA's names no stream, but kernels run on the default one."""
    given: Mapping[str, Any] = array.__cuda_array_interface__
    return {**given, "stream": LEGACY_STREAM} if _is_pycuda(array) else given


def _address(given: Mapping[str, Any], shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Where the array of an interface lies; InputError if it is another, or has gaps."""
    kind = tuple(given["shape"]), np.dtype(given["typestr"])
    strides = [dtype.itemsize * math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    # Along an axis of one pixel a stride means nothing.
    found = zip(shape, given.get("strides") or strides, strides, strict=False)
    gaps = any(size > 1 and stride != wanted for size, stride, wanted in found)
    if kind != (shape, dtype) or gaps:
        raise InputError(
            f"the device array is {kind[1]} {kind[0]}{' with gaps' * gaps}; give a contiguous "
            f"{dtype} array {shape}."
        )
    return int(given["data"][0])
