"""Put simulated functions in the place of those of cuda-bindings."""

import inspect
import re
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any, Protocol

import pytest

from tests.helpers.simulated_cuda.gpu import CudaFailure, SimulatedGpu


class Double(Protocol):
    """Functions that stand in for those of a module."""

    module: ModuleType
    """The real one."""
    prefix: str
    """Of the names of its functions."""
    success: Any

    def status(self, failure: Any) -> Any:
        """The module's own status for one of the runtime."""

    def enter(self, name: str) -> None:
        """Do what comes before every call."""

    def discard(self, result: Any) -> None:
        """Destroy what a call made that is said to have failed."""


# They describe a status, and need no driver.
_PURE = ("cudaGetErrorString", "cudaGetErrorName", "cuGetErrorString", "cuGetErrorName")
# They do their work though they fail: what they report is an error of something earlier.
_ANYWAY = re.compile("(Destroy|Free|FreeHost|EndCapture)$")


@cache
def functions(module: ModuleType, prefix: str) -> dict[str, Any]:
    """The functions of a module of cuda-bindings by name, as they are before any is replaced."""
    kind = type(getattr(module, prefix + "GetErrorString"))
    return {
        name: value
        for name, value in vars(module).items()
        if name.startswith(prefix) and isinstance(value, kind)
    }


@cache
def results(function: Any) -> list[str]:
    """The names of what a function of cuda-bindings returns beside its status."""
    section = re.search(r"\n *Returns\n *-+\n(.*?)(\n *\n|\Z)", function.__doc__, re.DOTALL)
    assert section, function.__name__
    return re.findall(r"^ *(\w+) : ", section[1], re.MULTILINE)


def replace_functions(patch: pytest.MonkeyPatch, gpu: SimulatedGpu, double: Double) -> None:
    """Replace all functions of a module; those that are not simulated raise."""
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
    """A function with the arguments and the results of the real one."""
    name, named = real.__name__, results(real)
    kinds = [parameter.annotation for parameter in _signature(real).parameters.values()]

    def call(*arguments: Any) -> tuple[Any, ...]:
        for given, kind in zip(arguments, kinds, strict=True):
            if kind is not inspect.Parameter.empty:  # the real one takes no number for it
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
