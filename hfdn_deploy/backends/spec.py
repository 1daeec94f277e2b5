"""The backends, and all in which they differ: one record each. Importing it costs nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hfdn_deploy.bundle import PRECISIONS
from hfdn_deploy.errors import BackendError

ModelKind = Literal["bundle", "engine", "checkpoint"]
CHECKPOINT_SUFFIXES = (".safetensors", ".pth", ".pt")
"""In lower case."""


@dataclass(frozen=True)
class Obstacle:
    """Why something cannot run here, and what to do about it."""

    reason: str
    advice: str

    def __str__(self) -> str:
        return f"{self.reason}: {self.advice}"

    def error(self) -> BackendError:
        """Return the error that says so."""
        error = BackendError(f"{self}.")
        error.reason, error.advice = self.reason, self.advice
        return error


@dataclass(frozen=True, kw_only=True)
class BackendSpec:
    """What is known of a backend before it is imported."""

    name: str
    """As in `Upscaler.load` and on the command line."""
    implementation: str
    """Its class, a `Backend`, as "module:class"."""
    device: Literal["cpu", "gpu"]
    runs: tuple[ModelKind, ...]
    """What it opens."""
    dialect: str | None = None
    """Of a bundle's graphs, as for `bundle.graph_for`; None if it runs no bundles."""
    install: str
    """The command that brings it."""
    max_batch: int | None = None
    """The most images at once with what it builds by itself; None where memory alone decides."""
    automatic: tuple[str, ...] = ()
    """Precisions in which "auto" tries it, after those before it in `BACKENDS`."""
    merit: str = "first that fits"
    """Why "auto" takes it rather than those behind it."""


_FASTEST = "the fastest measured of those left"

BACKENDS = {
    spec.name: spec
    for spec in (
        # An engine has to be built first, and which of the three that need a GPU is the fastest
        # has not been measured: `tensorrt` and `rtx-ep` must be requested explicitly.
        BackendSpec(
            name="tensorrt",
            implementation="hfdn_deploy.backends.tensorrt:TensorRTBackend",
            device="gpu",
            runs=("engine", "bundle"),
            dialect="cuda",
            install="pip install 'hfdn-deploy[rtx]'",
            max_batch=1,  # the profile that engines are built with by default
        ),
        BackendSpec(
            name="rtx-ep",
            implementation="hfdn_deploy.backends.onnxruntime_device:RtxBackend",
            device="gpu",
            runs=("bundle",),
            dialect="cuda",
            install="pip install 'hfdn-deploy[rtx]'",
        ),
        BackendSpec(
            name="cuda",
            implementation="hfdn_deploy.backends.onnxruntime_device:CudaBackend",
            device="gpu",
            runs=("bundle",),
            dialect="cuda",
            install="pip uninstall onnxruntime onnxruntime-gpu, then pip install onnxruntime-gpu",
            automatic=("fp32", "fp16", "int8"),
        ),
        # Latency of OpenVINO as a share of ONNX Runtime's for ×2, ×3, ×4 (benchmarks/results/
        # 2026-11-23-amd-epyc-2-cores.md): fp32 0.88, 0.90, 0.89; int8 0.59, 0.65, 0.59.
        BackendSpec(
            name="openvino",
            implementation="hfdn_deploy.backends.openvino:OpenVINOBackend",
            device="cpu",
            runs=("bundle",),
            dialect="openvino",
            install="pip install 'hfdn-deploy[openvino]'",
            automatic=("fp32", "bf16", "int8"),
            merit=_FASTEST,
        ),
        BackendSpec(
            name="onnxruntime",
            implementation="hfdn_deploy.backends.onnxruntime:OnnxRuntimeBackend",
            device="cpu",
            runs=("bundle",),
            dialect="cpu",
            install="pip uninstall onnxruntime onnxruntime-gpu, then pip install onnxruntime",
            automatic=("fp32", "fp16", "int8"),
            merit=_FASTEST,
        ),
        BackendSpec(
            name="torch",
            implementation="hfdn_deploy.backends.torch:TorchBackend",
            device="cpu",
            runs=("checkpoint",),
            install="pip install 'hfdn-deploy[torch]'",
            automatic=PRECISIONS,
        ),
    )
}
"""By name, in the order in which "auto" tries them."""

NAMES = tuple(BACKENDS)


def automatic(precision: str) -> Sequence[BackendSpec]:
    """The backends that "auto" tries for a precision, in order."""
    return [spec for spec in BACKENDS.values() if precision in spec.automatic]
