"""Device memory and page-locked memory: owned, pooled, or borrowed from other libraries."""

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

# Number of freed results whose memory is kept for the next ones.
_KEPT = 4
HELD = 16
"""Most page-locked results that callers may hold, since such memory serves nothing else."""


class Buffer:
    """Memory that grows to the largest requested size and is freed by `close`.

    Args:
        pinned: use page-locked host memory instead of device memory.
    """

    def __init__(self, pinned: bool = False) -> None:
        self.pinned = pinned
        self.pointer = 0
        self.size = 0

    def reserve(self, size: int) -> int:
        """Reserve `size` bytes and return the address, which changes when the buffer grows."""
        if size > self.size:
            self.close()
            self.pointer = int(call("cudaMallocHost" if self.pinned else "cudaMalloc", size))
            self.size = size
        return self.pointer

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return the start of a pinned buffer as an array, without a copy."""
        address = self.reserve(math.prod(shape) * dtype.itemsize)
        return array_at(None, address, shape, dtype)

    def close(self) -> None:
        """Free the memory."""
        if self.pointer:
            pointer, self.pointer, self.size = self.pointer, 0, 0
            call("cudaFreeHost" if self.pinned else "cudaFree", pointer)


class Pool:
    """Memory for results, on the device or page-locked, reused when their arrays are freed.

    The stream that uses device memory from a pool must first wait for the legacy default stream,
    on which a former owner may have pending work. `take` and `close` must not be called at the
    same time.
    """

    def __init__(self, handle: Any, pinned: bool = False) -> None:
        """Make an empty pool for a CUDA context, which must be current."""
        self._context = handle
        self._pinned = pinned
        # A caller may destroy its own context, and page-locked memory with it: no result may
        # then stay in this memory.
        self.lent = HELD if pinned and not is_primary(handle) else 0
        """Approximate number of results in the pool's memory; `HELD` at first if none may be."""
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
        """Take memory back; safe in a finalizer, since only a closed pool calls CUDA here."""
        self.lent -= 1
        self._free.append(buffer)
        if self._closed:
            # At interpreter exit, the context or the driver may be gone.
            with suppress(BackendError, RuntimeError), context(self._context):
                self._shrink(0)

    def _shrink(self, most: int) -> None:
        """Free the oldest buffers until `most` are left."""
        # IndexError: another thread took the last buffer.
        with ExitStack() as each, suppress(IndexError):
            while len(self._free) > most:
                each.callback(self._free.popleft().close)
                # Runs before the close above: callbacks run last in, first out.
                each.callback(call, "cudaStreamSynchronize", LEGACY_STREAM)

    def close(self) -> None:
        """Free the pool's memory now, and memory that is given back later at once."""
        self._closed = True
        self._shrink(0)


class _Lent:
    """Memory of a pool, given back when this object is freed."""

    def __init__(self, pool: Pool, size: int) -> None:
        self._pool = pool
        self._buffer = pool.take(size)
        self.pointer = self._buffer.pointer

    def __del__(self, ends: Callable[[], bool] = sys.is_finalizing) -> None:
        if hasattr(self, "_buffer") and not ends():  # without it, `take` failed
            self._pool.give(self._buffer)


def host_array(shape: tuple[int, ...], dtype: np.dtype[Any], pool: Pool) -> NDArray[Any]:
    """Return an array in a pool's page-locked memory, given back when the array is freed."""
    memory = _Lent(pool, math.prod(shape) * dtype.itemsize)
    return array_at(memory, memory.pointer, shape, dtype)


class DeviceView:
    """A contiguous device array for other libraries such as CuPy, PyTorch and TensorFlow."""

    def __init__(
        self, owner: Any, address: int, shape: tuple[int, ...], dtype: np.dtype[Any], device: int
    ) -> None:
        """Describe memory without pending work, and keep its owner alive."""
        self._owner, self._address = owner, address
        self.shape, self.dtype, self.device = shape, dtype, device
        self.pending: dict[str, Any] = {}
        """Version and stream of the owner's interface, if work may be pending on the memory."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Version 3 of the protocol, or the owner's version and stream."""
        return interface(self._address, self.shape, self.dtype) | self.pending

    def __dlpack__(self, **_: Any) -> Any:
        """Return a capsule that is valid on any stream."""
        return lend(self, self._address, self.shape, self.dtype, self.__dlpack_device__())

    def __dlpack_device__(self) -> tuple[int, int]:
        """Return DLPack's device type and the index of the device."""
        return CUDA, self.device


class DeviceArray(DeviceView):
    """A device array that owns its memory.

    Work that reads it on a stream other than the legacy default stream must be complete before the
    array is freed.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], pool: Pool) -> None:
        memory = _Lent(pool, math.prod(shape) * dtype.itemsize)
        super().__init__(memory, memory.pointer, shape, dtype, pool.device)


def like(given: object, result: Any) -> Any:
    """Return our device array as PyCUDA's if `given` is PyCUDA's; else return `result` itself."""
    if not _is_pycuda(given) or not isinstance(result, DeviceArray):
        return result
    gpuarray = import_module("pycuda.gpuarray")
    pointer = result.__cuda_array_interface__["data"][0]
    return gpuarray.GPUArray(result.shape, result.dtype, gpudata=pointer, base=result)


def _is_pycuda(array: object) -> bool:
    return type(array).__module__ == "pycuda.gpuarray"


def is_device_array(array: object) -> bool:
    """Return whether this is an array on a CUDA device, of any library."""
    if hasattr(array, "__cuda_array_interface__"):
        return True
    try:
        kind, _ = array.__dlpack_device__()  # type: ignore[attr-defined]
    except Exception:  # such as AttributeError; some libraries raise for devices unknown to DLPack
        return False
    return bool(kind == CUDA)


def as_device_array(array: Any) -> Any:
    """Return a device array with `__cuda_array_interface__`, through DLPack if it has none.

    Raises:
        InputError: both protocols are missing or invalid, or the array is not on a CUDA device.
    """
    try:
        if not hasattr(array, "__cuda_array_interface__"):
            array = Taken(array.__dlpack__(stream=LEGACY_STREAM))
            if array.device[0] != CUDA or not array.address:
                raise InputError("the array is not on the CUDA device", "copy it to the host")
        given = array.__cuda_array_interface__
        tuple(given["shape"]), np.dtype(given["typestr"]), int(given["data"][0])
    except InputError:
        raise
    except Exception as error:  # of any library
        reason = f"the array on the device cannot be taken ({first_line(error)})"
        raise InputError(reason, "copy it to the host") from None
    return array


def view(array: Any, shape: tuple[int, ...]) -> DeviceView:
    """Return a contiguous device array in another shape of the same size, without a copy.

    `borrow` waits for pending work of the view as it does for the array itself.

    Raises:
        InputError: the array is not contiguous.
    """
    owner = as_device_array(array)
    given = _interface(owner)
    dtype = np.dtype(given["typestr"])
    address = _address(given, tuple(given["shape"]), dtype)
    made = DeviceView(owner, address, shape, dtype, int(call("cudaGetDevice")))
    made.pending = {key: given[key] for key in ("version", "stream") if key in given}
    return made


def borrow(array: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Return the address of another library's array, after waiting for its pending work.

    Raises:
        InputError: the array has another shape or dtype or is not contiguous.
        CudaError: the pending work failed, or a stream captures and the array names no stream.
    """
    given = _interface(array)
    address = _address(given, shape, dtype)
    if given.get("version", 0) < 3:
        # Before version 3, the protocol does not tell on which stream an array is written.
        call("cudaDeviceSynchronize")
    elif (stream := given.get("stream")) is not None:
        call("cudaStreamSynchronize", stream)
    return address


def _interface(array: Any) -> Mapping[str, Any]:
    """Return an array's interface; PyCUDA's lacks the default stream that its kernels run on."""
    given: Mapping[str, Any] = array.__cuda_array_interface__
    return {**given, "stream": LEGACY_STREAM} if _is_pycuda(array) else given


def _address(given: Mapping[str, Any], shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Return the address of an array; InputError if it is not as wanted or not contiguous."""
    kind = tuple(given["shape"]), np.dtype(given["typestr"])
    strides = [dtype.itemsize * math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    # The stride of an axis of length 1 is arbitrary.
    found = zip(shape, given.get("strides") or strides, strides, strict=False)
    gaps = any(size > 1 and stride != wanted for size, stride, wanted in found)
    if kind != (shape, dtype) or gaps:
        raise InputError(
            f"the device array is {kind[1]} {kind[0]}{' with gaps' * gaps}; give a contiguous "
            f"{dtype} array {shape}."
        )
    return int(given["data"][0])
