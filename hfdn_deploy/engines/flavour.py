"""The flavours of TensorRT, one record each."""

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
    """Name in `FLAVOURS`, on the command line and in sidecars."""
    title: str
    packages: tuple[str, ...]
    """Distributions that carry the library's version; the first installed one counts."""
    load: Callable[[], "TensorRT"]
    """Imports the module and its libraries; raises ImportError or OSError."""
    targets: tuple[str, ...]
    """Compute capabilities to build for without a GPU; empty if it only builds for the GPU here."""
    compatible_modes: bool
    """Whether engines can be built for other GPUs and later versions."""
    compiles_at_run: bool
    """Whether kernels are compiled on the device at run time instead of timed by the build."""

    @property
    def version(self) -> str | None:
        """The installed version, found without loading the library; None if not installed."""
        from importlib.metadata import PackageNotFoundError, version  # slow to import

        for package in self.packages:
            with suppress(PackageNotFoundError):
                return version(package)
        return None

    @property
    def trt(self) -> "TensorRT":
        """The Python module.

        Raises:
            BackendError: the module is not installed or does not load.
        """
        if reason := why_unavailable(self.name):
            raise BackendError(f"{reason}.")
        return self.load()


def _load_rtx() -> "TensorRT":
    """Import the bindings, after the libraries in another package, where they do not look."""
    spec = find_spec("onnxruntime_ep_nv_tensorrt_rtx")
    if spec is None or spec.origin is None:
        raise ImportError("package onnxruntime-ep-nv-tensorrt-rtx-cu13 is missing")
    for pattern in ("libtensorrt_rtx.so*", "libtensorrt_onnxparser_rtx.so*"):
        for library in Path(spec.origin).parent.glob(pattern):
            ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
    return cast("TensorRT", import_module("tensorrt_rtx_bindings"))


def _load_tensorrt() -> "TensorRT":
    trt = cast("TensorRT", import_module("tensorrt"))
    if tuple(map(int, trt.__version__.split(".")[:2])) < (10, 12):
        raise ImportError(f"version {trt.__version__} is too old: strong typing needs 10.12")
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
    """Return why a flavour cannot be loaded here, and what to do; None if it can."""
    flavour = FLAVOURS[name]
    try:
        with deferred():
            flavour.load()
    except (ImportError, OSError, AttributeError) as error:
        advice = f"pip install 'hfdn-deploy[{name}]'"
        return f"{flavour.title} cannot be loaded ({error}): {advice}"
    return None


def choose_flavour(name: str) -> Flavour:
    """Return the flavour of this name; for "auto", the first of `FLAVOURS` that loads.

    Raises:
        BackendError: the flavour, or for "auto" every flavour, is not installed or does not load.
    """
    reasons = []
    for candidate in FLAVOURS if name == "auto" else (name,):
        reason = why_unavailable(candidate)
        if reason is None:
            return FLAVOURS[candidate]
        reasons.append(reason)
    raise BackendError(f"{'; '.join(reasons)}.")
