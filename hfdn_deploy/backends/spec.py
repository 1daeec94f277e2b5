"""Records of the backends, one each; importing this module imports no backend."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hfdn_deploy.bundle import PRECISIONS
from hfdn_deploy.errors import BackendError

ModelKind = Literal["bundle", "engine", "checkpoint"]
CHECKPOINT_SUFFIXES = (".safetensors", ".pth", ".pt")
"""File suffixes of checkpoints, in lower case."""


@dataclass(frozen=True)
class Obstacle:
    """A reason why something cannot run here, and advice on what to do."""

    reason: str
    advice: str

    def __str__(self) -> str:
        return f"{self.reason}: {self.advice}"

    def error(self) -> BackendError:
        """Return a BackendError with this reason and advice."""
        error = BackendError(f"{self}.")
        error.reason, error.advice = self.reason, self.advice
        return error


@dataclass(frozen=True, kw_only=True)
class BackendSpec:
    """Facts about a backend that are known before it is imported."""

    name: str
    """Name in `Upscaler.load` and on the command line."""
    implementation: str
    """The subclass of `Backend`, as "module:class"."""
    device: Literal["cpu", "gpu"]
    runs: tuple[ModelKind, ...]
    """Kinds of models that it opens."""
    dialect: str | None = None
    """Dialect of a bundle's graphs for `bundle.graph_for`; None if it runs no graphs."""
    install: str
    """Command or advice to install it."""
    packages: tuple[str, ...]
    """Distributions that contain its library; if any is installed, the library should load."""
    max_batch: int | None = None
    """Largest batch with engines that it builds itself; None if only memory limits it."""
    automatic: bool = True
    """Whether "auto" tries it; the others must be requested explicitly."""
    merit: str = "first that fits"
    """Why "auto" prefers it to the backends after it."""


_FASTEST = "the fastest measured of those left"

BACKENDS = {
    spec.name: spec
    for spec in (
        # Not automatic: engines have to be built first, and the latency of the four GPU backends
        # has not been compared.
        BackendSpec(
            name="tensorrt",
            implementation="hfdn_deploy.backends.tensorrt:TensorRTBackend",
            device="gpu",
            runs=("engine", "bundle"),
            dialect="cuda",
            install="pip install 'hfdn-deploy[rtx]'",
            packages=("tensorrt", "tensorrt-rtx-cu13-bindings"),
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
            packages=("onnxruntime-ep-nv-tensorrt-rtx-cu13",),
            automatic=False,
        ),
        BackendSpec(
            name="cuda",
            implementation="hfdn_deploy.backends.onnxruntime_device:CudaBackend",
            device="gpu",
            runs=("bundle",),
            dialect="cuda",
            install="pip uninstall onnxruntime onnxruntime-gpu, then pip install onnxruntime-gpu",
            packages=("onnxruntime-gpu",),
        ),
        BackendSpec(
            name="torch-cuda",
            implementation="hfdn_deploy.backends.torch_cuda:TorchCudaBackend",
            device="gpu",
            runs=("checkpoint", "bundle"),
            install="install a PyTorch for CUDA, see pytorch.org",
            packages=("torch",),
            automatic=False,
        ),
        BackendSpec(
            name="openvino",
            implementation="hfdn_deploy.backends.openvino:OpenVINOBackend",
            device="cpu",
            runs=("bundle",),
            dialect="openvino",
            install="pip install 'hfdn-deploy[openvino]'",
            packages=("openvino",),
            merit=_FASTEST,
        ),
        BackendSpec(
            name="onnxruntime",
            implementation="hfdn_deploy.backends.onnxruntime:OnnxRuntimeBackend",
            device="cpu",
            runs=("bundle",),
            dialect="cpu",
            install="pip uninstall onnxruntime onnxruntime-gpu, then pip install onnxruntime",
            packages=("onnxruntime", "onnxruntime-gpu"),
            merit=_FASTEST,
        ),
        BackendSpec(
            name="torch",
            implementation="hfdn_deploy.backends.torch:TorchBackend",
            device="cpu",
            runs=("checkpoint",),
            install="pip install 'hfdn-deploy[torch]'",
            packages=("torch",),
        ),
    )
}
"""Records by name."""

NAMES = tuple(BACKENDS)

# Fastest first. For CPUs, comments give the latency at ×2, ×3, ×4 relative to ONNX Runtime in fp32,
# from benchmarks/results/2026-11-28-amd-epyc-2-cores.md. For GPUs no order has been measured: this
# one follows the arithmetic, with int8 after fp32, since ONNX Runtime has no int8 kernels there.
_BY_SPEED = (
    *((name, "fp16") for name in ("tensorrt", "rtx-ep", "cuda", "torch-cuda")),
    ("torch-cuda", "bf16"),
    *((name, "fp32") for name in ("tensorrt", "rtx-ep", "cuda", "torch-cuda")),
    *((name, "int8") for name in ("tensorrt", "rtx-ep", "cuda")),
    ("openvino", "int8"),  # 0.27, 0.31, 0.26
    ("openvino", "bf16"),  # ×3, ×4: 0.44, 0.44
    ("onnxruntime", "int8"),  # 0.53, 0.56, 0.54
    ("openvino", "fp32"),  # 0.90, 0.91, 0.89
    ("onnxruntime", "fp32"),
    ("onnxruntime", "fp16"),
    *(("torch", precision) for precision in PRECISIONS),  # refuses all but fp32 itself
)


def by_speed(name: str, precision: str) -> Sequence[tuple[BackendSpec, str]]:
    """Return the backends and precisions to try in order, where either may be "auto".

    A backend without a place in the order takes the precisions as `PRECISIONS` lists them.
    """
    if "auto" not in (name, precision):
        return [(BACKENDS[name], precision)]
    if name not in ("auto", *(backend for backend, _ in _BY_SPEED)):
        return [(BACKENDS[name], one) for one in PRECISIONS]
    return [
        (BACKENDS[backend], one)
        for backend, one in _BY_SPEED
        if precision in (one, "auto")
        and (name == backend or (name == "auto" and BACKENDS[backend].automatic))
    ]
