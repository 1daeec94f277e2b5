"""A simulated GPU: a test double for CUDA and for the half of TensorRT that runs engines.

It replaces every function of `cuda.bindings.runtime` and `cuda.bindings.driver`, and
`tensorrt_rtx_bindings.Runtime`. Engines are built by the real builder, which needs no GPU, and
their outputs are computed by ONNX Runtime. The simulation is stricter than a GPU:

- Enqueued work runs only when the host waits for its stream or for a later event, so a missing
  wait always shows. A memory conflict between unordered work is a violation.
- Device addresses are never reused. Memory is filled with NaN.
- Calls that are illegal while a stream captures fail and invalidate the capture.
- `SimulatedGpu.fail` makes any call fail, once or permanently.

Behaviour that is undefined on a GPU is recorded in `SimulatedGpu.violations`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.helpers.simulated_cuda.driver import Driver
from tests.helpers.simulated_cuda.gpu import SimulatedGpu
from tests.helpers.simulated_cuda.replace import replace_functions
from tests.helpers.simulated_cuda.runtime import Runtime
from tests.helpers.simulated_cuda.tensorrt import replace_runtime

__all__ = ["Driver", "Runtime", "SimulatedGpu", "simulated_gpu"]


@contextmanager
def simulated_gpu() -> Iterator[SimulatedGpu]:
    """Replace CUDA and TensorRT by a simulated GPU while the block runs."""
    gpu = SimulatedGpu()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hfdn_deploy.cuda.runtime._lost", gpu.lost)
        replace_functions(patch, gpu, Runtime(gpu))
        replace_functions(patch, gpu, Driver(gpu))
        replace_runtime(patch, gpu)
        yield gpu
