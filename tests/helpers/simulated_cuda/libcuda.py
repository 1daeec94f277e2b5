"""The functions of CUDA's driver library that PyCUDA calls, on a simulated GPU.

PyCUDA is native code, so the functions are compiled; each calls a Python function.
"""

# ruff: noqa: N802

import ctypes
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any

from cuda.bindings import runtime

from tests.helpers.simulated_cuda.gpu import PRIMARY, SimulatedGpu, Status

# No function has more than four arguments. Without a Python function it returns "deinitialized".
_C = """
#include <stddef.h>
typedef int (*function)(size_t, size_t, size_t, size_t);
#define FUNCTION(name) function simulated_##name; \\
    int name(size_t a, size_t b, size_t c, size_t d) \\
    { return simulated_##name ? simulated_##name(a, b, c, d) : 4; }
"""
_FUNCTION = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_size_t] * 4)
_WITHOUT_CONTEXT = ("cuInit", "cuDevice", "cuGetError", "cuCtxCreate", "cuCtxPush")
_Kind = runtime.cudaMemcpyKind


@contextmanager
def libcuda(gpu: SimulatedGpu) -> Iterator[None]:
    """Let PyCUDA use a simulated GPU while the block runs.

    Raises:
        ImportError: PyCUDA was linked to a driver library that does not exist.
        OSError: there is no C compiler.
    """
    library, double = _library(), LibCuda(gpu)
    functions = {name: _FUNCTION(_answering(gpu, name, getattr(double, name))) for name in _names()}
    places = {name: ctypes.c_void_p.in_dll(library, f"simulated_{name}") for name in functions}
    for name, place in places.items():
        place.value = ctypes.cast(functions[name], ctypes.c_void_p).value
    try:
        yield
    finally:
        for place in places.values():
            place.value = None


@cache
def _library() -> ctypes.CDLL:
    """Compile the functions and load them with PyCUDA's native code, which resolves to them."""
    code = _C + "\n".join(f"FUNCTION({name})" for name in _names())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "functions.so")
        command = ("cc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(path))
        subprocess.run(command, input=code.encode(), check=True)
        library = ctypes.CDLL(str(path), os.RTLD_GLOBAL)
    flags = sys.getdlopenflags()
    sys.setdlopenflags(os.RTLD_LAZY)  # functions that are not simulated may be missing
    try:
        import_module("pycuda.driver")
    finally:
        sys.setdlopenflags(flags)
    return library


def _names() -> list[str]:
    return [name for name in vars(LibCuda) if name.startswith("cu")]


def _answering(gpu: SimulatedGpu, name: str, function: Callable[..., Any]) -> Callable[..., int]:
    """Return a function that returns a status; most driver functions need a current context."""

    def answer(*arguments: int) -> int:
        if not gpu.context and not name.startswith(_WITHOUT_CONTEXT):
            return int(Status.cudaErrorDeviceUninitialized)
        (status, *_) = function(*arguments) or (Status.cudaSuccess,)
        return int(status)

    return answer


def _write(address: int, value: int, kind: Any = ctypes.c_size_t) -> None:
    kind.from_address(address).value = value


class LibCuda:
    """The functions, each with four integers, own arguments first; None means success."""

    def __init__(self, gpu: SimulatedGpu) -> None:
        self._gpu = gpu
        self._handles = count(PRIMARY + 1)
        self._below: list[int] = []
        """Contexts below the current one on the stack of the thread that pushes contexts."""
        self._text = ctypes.create_string_buffer(100)

    def cuInit(self, *_: int) -> None:
        self._gpu.started = True

    def cuGetErrorString(self, error: int, text: int, *_: int) -> None:
        self._text.value = Status(error & 0xFFFFFFFF).name.encode()
        _write(text, ctypes.addressof(self._text))

    def cuDeviceGet(self, device: int, *_: int) -> None:
        _write(device, 0, ctypes.c_int)

    def cuCtxGetDevice(self, device: int, *_: int) -> None:
        _write(device, 0, ctypes.c_int)

    def cuDeviceGetAttribute(self, value: int, *_: int) -> None:
        _write(value, 32, ctypes.c_int)

    def cuDeviceComputeCapability(self, major: int, minor: int, *_: int) -> None:
        for place, value in zip((major, minor), self._gpu.target, strict=True):
            _write(place, value, ctypes.c_int)

    def cuDevicePrimaryCtxRetain(self, context: int, *_: int) -> None:
        _write(context, PRIMARY)

    def cuDevicePrimaryCtxRelease_v2(self, *_: int) -> None:
        pass

    def cuCtxCreate_v4(self, context: int, *_: int) -> None:
        handle = next(self._handles)
        self._gpu.contexts.add(handle)
        _write(context, handle)
        self.cuCtxPushCurrent_v2(handle)

    def cuCtxPushCurrent_v2(self, context: int, *_: int) -> None:
        self._below.append(self._gpu.context)
        self._gpu.context = context

    def cuCtxPopCurrent_v2(self, context: int, *_: int) -> None:
        _write(context, self._gpu.context)
        self._gpu.context = self._below.pop()

    def cuCtxDetach(self, context: int, *_: int) -> None:
        self._gpu.destroy(context)
        self._gpu.context = self._below.pop()

    def cuMemAlloc_v2(self, pointer: int, size: int, *_: int) -> Any:
        status, address = runtime.cudaMalloc(size)
        _write(pointer, address or 0)
        return (status,)

    def cuMemFree_v2(self, pointer: int, *_: int) -> Any:
        return runtime.cudaFree(pointer)

    def cuMemcpyHtoD_v2(self, to: int, source: int, size: int, _: int) -> Any:
        return runtime.cudaMemcpy(to, source, size, _Kind.cudaMemcpyHostToDevice)

    def cuMemcpyDtoH_v2(self, to: int, source: int, size: int, _: int) -> Any:
        return runtime.cudaMemcpy(to, source, size, _Kind.cudaMemcpyDeviceToHost)

    def cuMemcpyDtoD_v2(self, to: int, source: int, size: int, _: int) -> Any:
        # Asynchronous: the call may return before the copy is done.
        return runtime.cudaMemcpyAsync(to, source, size, _Kind.cudaMemcpyDeviceToDevice, 0)
