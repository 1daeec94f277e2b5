"""Arrays in the memory of a GPU, simulated or not."""

from contextlib import suppress
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from hfdn_deploy import cuda
from hfdn_deploy.errors import BackendError


class OnDevice:
    """A copy of an array on the current CUDA device."""

    def __init__(self, array: NDArray[Any], **interface: Any) -> None:
        """Copy an array to the device.

        Args:
            array: contiguous array.
            interface: entries of `__cuda_array_interface__` to add or to replace.
        """
        self._pointer = 0
        self._pointer = int(cuda.call("cudaMalloc", array.nbytes))
        self.shape = array.shape
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (self._pointer, False),
            "strides": None,
            "version": 3,
            "stream": None,
            **interface,
        }
        self.write(array)

    def write(self, array: NDArray[Any]) -> None:
        """Replace the contents."""
        kind = cuda.member("cudaMemcpyKind", "cudaMemcpyHostToDevice")
        cuda.call("cudaMemcpy", self._pointer, array.ctypes.data, array.nbytes, kind)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the memory."""
        pointer, self._pointer = self._pointer, 0
        # After a failure CUDA may refuse to free memory.
        with suppress(BackendError):
            cuda.call("cudaFree", pointer)

    def __del__(self) -> None:
        if self._pointer:
            self.close()


def on_host(array: Any) -> NDArray[Any]:
    """Return a copy, in host memory, of a contiguous array on the device."""
    interface = array.__cuda_array_interface__
    copy = np.empty(interface["shape"], interface["typestr"])
    kind = cuda.member("cudaMemcpyKind", "cudaMemcpyDeviceToHost")
    cuda.call("cudaMemcpy", copy.ctypes.data, interface["data"][0], copy.nbytes, kind)
    return copy
