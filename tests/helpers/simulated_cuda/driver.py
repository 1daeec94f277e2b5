"""The simulated functions of `cuda.bindings.driver`, for contexts."""

# ruff: noqa: N802

from typing import Any

from cuda.bindings import driver

from tests.helpers.simulated_cuda.gpu import PRIMARY, CudaFailure, SimulatedGpu, Status


class Driver:
    """See `replace.Double`."""

    module = driver
    prefix = "cu"
    success = driver.CUresult.CUDA_SUCCESS

    def __init__(self, gpu: SimulatedGpu) -> None:
        self._gpu = gpu

    def status(self, failure: Any) -> Any:
        """See `Double.status`; both modules use the same numbers."""
        return driver.CUresult(int(failure))

    def enter(self, name: str) -> None:
        """See `Double.enter`."""

    def discard(self, result: Any) -> None:
        """See `Double.discard`."""

    def cuGetErrorString(self, error: Any) -> tuple[Any, bytes]:
        return self.success, error.name.removeprefix("CUDA_ERROR_").lower().encode()

    def cuCtxGetCurrent(self) -> Any:
        if not self._gpu.started:
            raise CudaFailure(Status.cudaErrorInitializationError)
        return driver.CUcontext(self._gpu.context)

    def cuCtxSetCurrent(self, ctx: Any) -> None:
        if int(ctx) and int(ctx) not in self._gpu.contexts:
            raise CudaFailure(Status.cudaErrorInvalidResourceHandle)
        self._gpu.context = int(ctx)

    def cuDevicePrimaryCtxGetState(self, dev: Any) -> tuple[int, int]:
        return 0, int(self._gpu.primary)

    def cuDevicePrimaryCtxRetain(self, dev: Any) -> Any:
        if not self._gpu.primary:
            self._gpu.violate("a second context is created on the device")
        return driver.CUcontext(PRIMARY)

    def cuDevicePrimaryCtxRelease(self, dev: Any) -> None:
        pass
