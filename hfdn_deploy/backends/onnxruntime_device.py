"""ONNX Runtime on an NVIDIA GPU, with CUDA or with its plugin for TensorRT-RTX."""

import io
import logging
from contextlib import redirect_stdout
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfdn_deploy.backends.onnxruntime import OnnxRuntimeSessions, failures
from hfdn_deploy.backends.probes import import_reason
from hfdn_deploy.backends.spec import BACKENDS, Obstacle
from hfdn_deploy.bundle import ModelFile
from hfdn_deploy.cuda import DeviceView, as_device_array, borrow, call, is_device_array
from hfdn_deploy.errors import BackendError, first_line

logger = logging.getLogger(__name__)

# Severity "fatal", which silences ONNX Runtime's log; its errors are raised as well.
_NOTHING = 4


class DeviceSessions(OnnxRuntimeSessions):
    """Sessions with inputs and outputs in device memory, whose use has not been measured."""

    memory = None
    takes_images = True

    def __init__(self, precision: str, scale: int, data: bytes, entry: ModelFile) -> None:
        self._device = _device_index()
        super().__init__(precision, scale, data, entry)

    def run(self, lr: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Backend.run`; an array on the device gives an array there."""
        with failures(*lr.shape[2:]):
            sr: NDArray[np.float32] = self._bound(self.session, lr, np.dtype(np.float32))
            return sr

    def run_images(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """See `Backend.run_images`; an array on the device gives an array there."""
        session = self.image_session
        with failures(*images.shape[1:3]):
            upscaled: NDArray[np.uint8] = self._bound(session, images, np.dtype(np.uint8))
            return upscaled

    def _bound(self, session: Any, given: Any, dtype: np.dtype[Any]) -> Any:
        """Run a session of one input and one output; the output lies where the input does."""
        (source,), (target,) = session.get_inputs(), session.get_outputs()
        binding = session.io_binding()
        on_device = is_device_array(given)
        if on_device:
            given = as_device_array(given)
            shape = tuple(given.shape)
            address = borrow(given, shape, dtype)
            binding.bind_input(source.name, "cuda", self._device, dtype, shape, address)
        else:
            binding.bind_cpu_input(source.name, given)
        binding.bind_output(target.name, "cuda", self._device)
        session.run_with_iobinding(binding)
        if on_device:
            (value,) = binding.get_outputs()
            shape = tuple(value.shape())
            return DeviceView(value, value.data_ptr(), shape, dtype, self._device)
        return binding.copy_outputs_to_cpu()[0]


class CudaBackend(DeviceSessions):
    """ONNX Runtime's CUDA provider."""

    name = "cuda"
    provider = "CUDAExecutionProvider"

    @classmethod
    def new_session(cls, data: bytes, options: Any) -> Any:
        """See `OnnxRuntimeSessions.new_session`."""
        import onnxruntime as ort

        _load_cuda()
        options.log_severity_level = _NOTHING
        settings = {
            "device_id": str(_device_index()),
            # TensorFloat-32 would shorten the mantissas of fp32 graphs.
            "use_tf32": "0",
            # By default, kernels are searched for at each new size, which takes seconds.
            "cudnn_conv_algo_search": "HEURISTIC",
        }
        return ort.InferenceSession(data, options, providers=[(cls.provider, settings)])


class RtxBackend(DeviceSessions):
    """ONNX Runtime's plugin for TensorRT-RTX."""

    name = "rtx-ep"
    provider = "NvTensorRTRTXExecutionProvider"

    @classmethod
    def why_unavailable(cls) -> Obstacle | None:
        """See `Backend.why_unavailable`."""
        found = _devices()
        return found if isinstance(found, Obstacle) else None

    @classmethod
    def new_session(cls, data: bytes, options: Any) -> Any:
        """See `OnnxRuntimeSessions.new_session`."""
        import onnxruntime as ort

        devices = _devices()
        if isinstance(devices, Obstacle):
            raise devices.error()
        index = _device_index()
        if index >= len(devices):
            raise BackendError(
                f"TensorRT-RTX runs on {len(devices)} of the GPUs here, but not on device {index}",
                "make another device current",
            )
        options.add_provider_for_devices([devices[index]], {"device_id": str(index)})
        return ort.InferenceSession(data, options)


def _devices() -> list[Any] | Obstacle:
    """Return the devices that the plugin can run on, or why there are none."""
    other = "use backend onnxruntime"
    try:
        import onnxruntime as ort
    except ImportError as error:
        install = BACKENDS["onnxruntime"].install
        return Obstacle(f"ONNX Runtime cannot be imported ({import_reason(error)})", install)
    plugin_name = "ONNX Runtime's plugin for TensorRT-RTX"
    try:
        plugin = import_module("onnxruntime_ep_nv_tensorrt_rtx")
    except ImportError:
        return Obstacle(f"{plugin_name} is not installed", BACKENDS["rtx-ep"].install)
    name = plugin.get_ep_name()
    try:
        _register(name, plugin.get_library_path())
    except Exception as error:  # its exceptions share no base class but this
        text = first_line(error)
        driver = "libcuda" in text or "nvcuda" in text
        advice = "install an NVIDIA driver" if driver else BACKENDS["rtx-ep"].install
        reason = f"ONNX Runtime cannot load its plugin for TensorRT-RTX ({text})"
        return Obstacle(reason, f"{advice}, or {other}")
    devices = [device for device in ort.get_ep_devices() if device.ep_name == name]
    return devices or Obstacle(f"{plugin_name} finds no GPU", other)


def _device_index() -> int:
    """Return the current CUDA device, or 0 if cuda-bindings is not installed."""
    try:
        return int(call("cudaGetDevice"))
    except BackendError:
        return 0


@cache
def _load_cuda() -> None:
    """Load the CUDA and cuDNN installed by pip, which the loader does not find by itself."""
    import onnxruntime as ort

    if not hasattr(ort, "preload_dlls"):
        return
    with redirect_stdout(io.StringIO()) as said:
        ort.preload_dlls()
    ort.set_default_logger_severity(_NOTHING)
    if lines := said.getvalue().strip():
        logger.info("onnxruntime: %s", lines.replace("\n", "; "))


@cache
def _register(name: str, library: str) -> None:
    """Register a provider's library, which works only once in a process."""
    import onnxruntime as ort

    ort.register_execution_provider_library(name, library)
