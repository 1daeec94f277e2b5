"""The flavours of TensorRT, and all in which they differ."""

import ctypes
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast

from hfdn_deploy.errors import BackendError
from hfdn_deploy.interruption import deferred

if TYPE_CHECKING:
    from hfdn_deploy.engines.bindings import TensorRT


@dataclass(frozen=True)
class Flavour:
    """A library that builds and runs engines."""

    name: str
    """As in `FLAVOURS`, the command line and sidecars."""
    title: str
    packages: tuple[str, ...]
    """Distributions whose version is the library's; the first that is installed counts."""
    load: Callable[[], "TensorRT"]
    """Import the module, with its libraries; raises ImportError or OSError."""
    targets: tuple[str, ...]
    """Compute capabilities to build for, GPU or not; none if it builds for the GPU at hand."""
    compatible_modes: bool
    """Whether engines can be made to run on other GPUs and with later versions."""
    compiles_at_run: bool
    """Whether kernels are made on the device that runs them, and not timed by the build."""

    @property
    def version(self) -> str | None:
        """The installed version, without loading the library; None if there is none."""
        from importlib.metadata import PackageNotFoundError, version  # more than the rest here

        for package in self.packages:
            with suppress(PackageNotFoundError):
                return version(package)
        return None

    @property
    def trt(self) -> "TensorRT":
        """The Python module.

        Raises:
            BackendError: it is not installed or does not load.
        """
        if reason := why_unavailable(self.name):
            raise BackendError(f"{reason}.")
        return self.load()


def _load_rtx() -> "TensorRT":
    """The bindings find their libraries, which lie in another package, if those are loaded."""
    spec = find_spec("onnxruntime_ep_nv_tensorrt_rtx")
    if spec is None or spec.origin is None:
        raise ImportError("no package onnxruntime-ep-nv-tensorrt-rtx-cu13")
    for pattern in ("libtensorrt_rtx.so*", "libtensorrt_onnxparser_rtx.so*"):
        for library in Path(spec.origin).parent.glob(pattern):
            ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
    return cast("TensorRT", import_module("tensorrt_rtx_bindings"))


def _load_tensorrt() -> "TensorRT":
    trt = cast("TensorRT", import_module("tensorrt"))
    if tuple(map(int, trt.__version__.split(".")[:2])) < (10, 12):
        raise ImportError(f"it is {trt.__version__}, and strong typing needs 10.12")
    return trt


FLAVOURS = {
    flavour.name: flavour
    for flavour in (
        Flavour(
            name="tensorrt",
            title="TensorRT",
            packages=("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
            load=cache(_load_tensorrt),
            targets=(),
            compatible_modes=True,
            compiles_at_run=False,
        ),
        Flavour(
            name="rtx",
            title="TensorRT-RTX",
            packages=("tensorrt-rtx-cu13-bindings",),
            load=cache(_load_rtx),
            targets=("sm75", "sm80", "sm86", "sm89", "sm120", "sm121"),
            compatible_modes=False,
            compiles_at_run=True,
        ),
    )
}


def why_unavailable(name: str) -> str | None:
    """Why a flavour cannot be loaded here and what to do about it; None if it can."""
    flavour = FLAVOURS[name]
    try:
        with deferred():
            flavour.load()
    except (ImportError, OSError, AttributeError) as error:
        advice = f"pip install 'hfdn-deploy[{name}]'"
        return f"{flavour.title} cannot be loaded ({error}): {advice}"
    return None


def choose_flavour(name: str) -> Flavour:
    """The flavour named; for "auto" the first of `FLAVOURS` that loads.

    Raises:
        BackendError: it is not installed or does not load; for "auto", none does.
    """
    reasons = []
    for candidate in FLAVOURS if name == "auto" else (name,):
        reason = why_unavailable(candidate)
        if reason is None:
            return FLAVOURS[candidate]
        reasons.append(reason)
    raise BackendError(f"{'; '.join(reasons)}.")
