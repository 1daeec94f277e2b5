"""Replacement of the functions of cuda-bindings by simulated ones."""

import inspect
import re
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any, Protocol

import pytest

from tests.helpers.simulated_cuda.gpu import CudaFailure, SimulatedGpu


class Double(Protocol):
    """Simulated functions that replace those of a module."""

    module: ModuleType
    """The real module."""
    prefix: str
    """Prefix of the names of the functions."""
    success: Any

    def status(self, failure: Any) -> Any:
        """Return the module's own status for a status of the runtime."""

    def enter(self, name: str) -> None:
        """Prepare for a call; runs before every call."""

    def discard(self, result: Any) -> None:
        """Destroy the result of a call that is reported as failed."""


# Functions that describe a status and need no driver.
_PURE = ("cudaGetErrorString", "cudaGetErrorName", "cuGetErrorString", "cuGetErrorName")
# Functions that do their work even if they fail, because they report errors of earlier calls.
_ANYWAY = re.compile("(Destroy|Free|FreeHost|EndCapture)$")


@cache
def functions(module: ModuleType, prefix: str) -> dict[str, Any]:
    """Return the original functions of a module of cuda-bindings by name."""
    kind = type(getattr(module, prefix + "GetErrorString"))
    return {
        name: value
        for name, value in vars(module).items()
        if name.startswith(prefix) and isinstance(value, kind)
    }


@cache
def results(function: Any) -> list[str]:
    """Return the names of a cuda-bindings function's results, without its status."""
    section = re.search(r"\n *Returns\n *-+\n(.*?)(\n *\n|\Z)", function.__doc__, re.DOTALL)
    assert section, function.__name__
    return re.findall(r"^ *(\w+) : ", section[1], re.MULTILINE)


def replace_functions(patch: pytest.MonkeyPatch, gpu: SimulatedGpu, double: Double) -> None:
    """Replace all functions of a module; functions that are not simulated raise."""
    for name, real in functions(double.module, double.prefix).items():
        own = getattr(double, name, None)
        if own and name in _PURE:
            patch.setattr(double.module, name, own)
        elif own:
            patch.setattr(double.module, name, _counted(gpu, double, real, own))
        elif name not in _PURE:
            patch.setattr(double.module, name, _refused(name))


_signature = cache(inspect.signature)


def _refused(name: str) -> Callable[..., Any]:
    def refuse(*arguments: Any) -> Any:
        raise NotImplementedError(f"{name} is not simulated")

    return refuse


def _counted(
    gpu: SimulatedGpu, double: Double, real: Any, own: Callable[..., Any]
) -> Callable[..., tuple[Any, ...]]:
    """Return a function with the arguments and results of the real one, which may fail."""
    name, named = real.__name__, results(real)
    kinds = [parameter.annotation for parameter in _signature(real).parameters.values()]

    def call(*arguments: Any) -> tuple[Any, ...]:
        for given, kind in zip(arguments, kinds, strict=True):
            if kind is not inspect.Parameter.empty:  # the real function rejects integers
                assert type(given).__name__ == kind, (name, given)
        with gpu.lock:
            failure = gpu.entered(name)
            double.enter(name)
            if failure is None or _ANYWAY.search(name):
                try:
                    found = own(*arguments)
                except CudaFailure as raised:
                    failure = failure or raised.status
                else:
                    if failure is not None and found is not None:
                        double.discard(found)
            if failure is not None:
                return (double.status(failure), *[None] * len(named))
        several = found if isinstance(found, tuple) else (found,) if found is not None else ()
        assert len(several) == len(named), (name, found, named)
        return (double.success, *several)

    return call
