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
    """Of a bundle's graphs, as for `bundle.graph_for`; None if it runs none of them."""
    install: str
    """The command that brings it."""
    max_batch: int | None = None
    """The most images at once with what it builds by itself; None where memory alone decides."""
    automatic: bool = True
    """Whether "auto" tries it; the others must be requested explicitly."""
    merit: str = "first that fits"
    """Why "auto" takes it rather than those behind it."""


_FASTEST = "the fastest measured of those left"

BACKENDS = {
    spec.name: spec
    for spec in (
        # An engine has to be built first, and which of the four that need a GPU is the fastest
        # has not been measured.
        BackendSpec(
            name="tensorrt",
            implementation="hfdn_deploy.backends.tensorrt:TensorRTBackend",
            device="gpu",
            runs=("engine", "bundle"),
            dialect="cuda",
            install="pip install 'hfdn-deploy[rtx]'",
            max_batch=1,  # the profile that engines are built with by default
            automatic=False,
        ),
        BackendSpec(
            name="rtx-ep",
            implementation="hfdn_deploy.backends.onnxruntime_device:RtxBackend",
            device="gpu",
            runs=("bundle",),
            dialect="cuda",
            install="pip install 'hfdn-deploy[rtx]'",
            automatic=False,
        ),
        BackendSpec(
            name="cuda",
            implementation="hfdn_deploy.backends.onnxruntime_device:CudaBackend",
            device="gpu",
            runs=("bundle",),
            dialect="cuda",
            install="pip uninstall onnxruntime onnxruntime-gpu, then pip install onnxruntime-gpu",
        ),
        BackendSpec(
            name="torch-cuda",
            implementation="hfdn_deploy.backends.torch_cuda:TorchCudaBackend",
            device="gpu",
            runs=("checkpoint", "bundle"),
            install="install a PyTorch for CUDA, see pytorch.org",
            automatic=False,
        ),
        BackendSpec(
            name="openvino",
            implementation="hfdn_deploy.backends.openvino:OpenVINOBackend",
            device="cpu",
            runs=("bundle",),
            dialect="openvino",
            install="pip install 'hfdn-deploy[openvino]'",
            merit=_FASTEST,
        ),
        BackendSpec(
            name="onnxruntime",
            implementation="hfdn_deploy.backends.onnxruntime:OnnxRuntimeBackend",
            device="cpu",
            runs=("bundle",),
            dialect="cpu",
            install="pip uninstall onnxruntime onnxruntime-gpu, then pip install onnxruntime",
            merit=_FASTEST,
        ),
        BackendSpec(
            name="torch",
            implementation="hfdn_deploy.backends.torch:TorchBackend",
            device="cpu",
            runs=("checkpoint",),
            install="pip install 'hfdn-deploy[torch]'",
        ),
    )
}
"""By name."""

NAMES = tuple(BACKENDS)

# The fastest first. On a CPU, with latency at ×2, ×3, ×4 as a share of ONNX Runtime's in fp32, from
# benchmarks/results/2026-11-23-amd-epyc-2-cores.md. On a GPU no order has been measured: that of
# its arithmetic stands here, and fp32 before int8, for which ONNX Runtime has no kernels there.
_BY_SPEED = (
    *((name, "fp16") for name in ("tensorrt", "rtx-ep", "cuda", "torch-cuda")),
    ("torch-cuda", "bf16"),
    *((name, "fp32") for name in ("tensorrt", "rtx-ep", "cuda", "torch-cuda")),
    *((name, "int8") for name in ("tensorrt", "rtx-ep", "cuda")),
    ("openvino", "int8"),  # 0.32, 0.35, 0.31
    ("openvino", "bf16"),  # ×3, ×4: 0.42, 0.44
    ("onnxruntime", "int8"),  # 0.54, 0.54, 0.53
    ("openvino", "fp32"),  # 0.88, 0.90, 0.89
    ("onnxruntime", "fp32"),
    ("onnxruntime", "fp16"),
    *(("torch", precision) for precision in PRECISIONS),  # it says itself that it has fp32 alone
)


def by_speed(name: str, precision: str) -> Sequence[tuple[BackendSpec, str]]:
    """The backends and precisions that "auto", for the one or the other, tries, in order."""
    if "auto" not in (name, precision):
        return [(BACKENDS[name], precision)]
    return [
        (BACKENDS[backend], one)
        for backend, one in _BY_SPEED
        if precision in (one, "auto")
        and (name == backend or (name == "auto" and BACKENDS[backend].automatic))
    ]
