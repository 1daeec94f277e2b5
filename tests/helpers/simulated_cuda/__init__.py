"""A simulated GPU: a test double for CUDA and for the half of TensorRT that runs engines.

It takes the place of every function of `cuda.bindings.runtime` and `cuda.bindings.driver`, and of
`tensorrt_rtx_bindings.Runtime`; engines are built by the real builder, which needs no GPU, and
their outputs are computed by ONNX Runtime. It is stricter than a GPU:

- Work that is enqueued runs only when somebody waits for its stream or for an event behind it, so
  a missing wait always shows. Work that conflicts with unordered work in memory is a violation.
- Addresses on the device are never given out twice. Memory is filled with NaN.
- Calls that are illegal while a stream captures fail and invalidate the capture.
- `SimulatedGpu.fail` makes any call fail, once or for good.

What a GPU would leave undefined is noted in `SimulatedGpu.violations`.
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
    """Give this process a simulated GPU while the block runs."""
    gpu = SimulatedGpu()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hfdn_deploy.cuda.runtime._lost", gpu.lost)
        replace_functions(patch, gpu, Runtime(gpu))
        replace_functions(patch, gpu, Driver(gpu))
        replace_runtime(patch, gpu)
        yield gpu
