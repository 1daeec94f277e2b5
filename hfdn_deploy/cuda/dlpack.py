"""DLPack exchange of arrays with libraries that have no `__cuda_array_interface__`.

The structures are those of dlpack.h, https://dmlc.github.io/dlpack/latest/c_api.html, in the
unversioned form that every library supports.
"""

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfdn_deploy.errors import InputError

CUDA = 2
"""DLPack's number of the device type CUDA."""
LEGACY_STREAM = 1
"""The legacy default stream, also PyTorch's and that of libraries that name none."""
# Kinds of NumPy dtypes by DLPack's type codes.
_KINDS = {0: "i", 1: "u", 2: "f"}
_NAME, _USED = b"dltensor", b"used_dltensor"
_DELETER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Device(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int32), ("index", ctypes.c_int32))


class _DataType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _DataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Managed(ctypes.Structure):
    _fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _DELETER))


def _capsule(function: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    """Return CPython's function for capsules; ctypes raises its errors."""
    return ctypes.PYFUNCTYPE(result, *arguments)((f"PyCapsule_{function}", ctypes.pythonapi))


_pointer = _capsule("GetPointer", ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
_rename = _capsule("SetName", ctypes.c_int, ctypes.py_object, ctypes.c_char_p)


class _Memory:
    """Memory that NumPy wraps as an array without accessing it."""

    def __init__(self, owner: Any, address: int, shape: tuple[int, ...], typestr: str) -> None:
        self._owner = owner
        place = address, False
        self.__array_interface__ = {"shape": shape, "typestr": typestr, "data": place, "version": 3}


def array_at(
    owner: Any, address: int, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Return memory as a NumPy array, which keeps the owner of the memory alive."""
    return np.asarray(_Memory(owner, address, shape, dtype.str))


def lend(
    owner: Any, address: int, shape: tuple[int, ...], dtype: np.dtype[Any], device: tuple[int, int]
) -> Any:
    """Return a capsule of contiguous memory, as `__dlpack__` should.

    It is NumPy's capsule with another device, since NumPy's deleter is in C and may run any time.

    Args:
        owner: owner of the memory, kept alive until the consumer frees the capsule.
        address: address of the memory.
        shape, dtype: of the array.
        device: DLPack's device type, such as `CUDA`, and index.
    """
    capsule = array_at(owner, address, shape, dtype).__dlpack__()
    managed = _Managed.from_address(_pointer(capsule, _NAME))
    managed.tensor.device.kind, managed.tensor.device.index = device
    return capsule


def interface(
    address: int,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    strides: tuple[int, ...] | None = None,
    stream: int | None = None,
) -> dict[str, Any]:
    """Return a `__cuda_array_interface__` of version 3; no stream means that no work is pending."""
    return {
        "shape": shape,
        "typestr": dtype.str,
        "data": (address, False),
        "strides": strides,
        "version": 3,
        "stream": stream,
    }


class Taken:
    """An array taken from a DLPack capsule, with `__cuda_array_interface__`."""

    def __init__(self, capsule: Any) -> None:
        """Take the array in a capsule, whose deleter is called when this object is freed.

        Raises:
            InputError: NumPy does not have the dtype.
        """
        self._managed = _Managed.from_address(_pointer(capsule, _NAME))
        _rename(capsule, _USED)
        tensor = self._managed.tensor
        kind = _KINDS.get(tensor.dtype.code)
        if kind is None or tensor.dtype.lanes != 1:
            raise InputError("the array has a dtype that NumPy does not have; convert it to uint8.")
        self.device: tuple[int, int] = tensor.device.kind, tensor.device.index
        self.dtype = np.dtype(f"{kind}{tensor.dtype.bits // 8}")
        self.shape = tuple(tensor.shape[: tensor.ndim])
        strides = tensor.strides[: tensor.ndim] if tensor.strides else None
        self.strides = strides and tuple(self.dtype.itemsize * stride for stride in strides)
        self.address = (tensor.data or 0) + tensor.byte_offset

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Version 3 of the protocol, with the stream that `__dlpack__` was called with."""
        return interface(self.address, self.shape, self.dtype, self.strides, LEGACY_STREAM)

    def __del__(self) -> None:
        if (managed := getattr(self, "_managed", None)) and managed.deleter:
            managed.deleter(ctypes.addressof(managed))
