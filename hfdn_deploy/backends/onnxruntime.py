"""ONNX Runtime, on the CPU or through CUDA (package onnxruntime-gpu)."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from hfdn_deploy.bundle import Bundle
from hfdn_deploy.errors import BackendError
from hfdn_deploy.manifest import graph_for

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def why_unavailable(device: str) -> str | None:
    """Why ONNX Runtime cannot run on `device` here; None if it can."""
    package = "onnxruntime" if device == "cpu" else "onnxruntime-gpu"
    try:
        import onnxruntime as ort

        providers = ort.get_available_providers()
    except (ImportError, AttributeError) as error:
        advice = f"pip uninstall onnxruntime onnxruntime-gpu, then pip install {package}"
        return f"ONNX Runtime cannot be imported ({error}): {advice}"
    if _PROVIDERS[device] not in providers:
        return f"this ONNX Runtime has no {_PROVIDERS[device]}: install {package} in its place"
    try:
        _open_session(_identity(), _PROVIDERS[device])
    except BackendError as error:
        return str(error)
    return None


def session_options() -> Any:
    """The options of every session; `python -m benchmarks sessions` measures the alternatives.

    Its defaults for threads, arena and graph optimisations are the fastest there. Where 8-bit
    products saturate, the slower kernels that do not are asked for.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    if eight_bit_products_saturate():
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


@cache
def eight_bit_products_saturate() -> bool:
    """Whether ONNX Runtime's 8-bit convolution is inexact here, as on x86 without VNNI.

    Instructions for 16-bit sums of two products clip them; tried with the largest ones.
    """
    import onnxruntime as ort

    session = ort.InferenceSession(_largest_products(), providers=[_PROVIDERS["cpu"]])
    (y,) = session.run(None, {"x": np.full((1, 48, 8, 8), 255, np.uint8)})
    return bool((y != 200).any())


def _identity() -> bytes:
    """The smallest graph a session can be opened with."""
    return _graph(onnx.helper.make_node("Identity", ["x"], ["y"]), onnx.TensorProto.FLOAT, [1])


def _largest_products() -> bytes:
    """An 8-bit 1×1 convolution of 48 channels whose outputs are 200 if all inputs are 255."""
    values = {
        "x_scale": np.float32(1),
        "x_zero": np.uint8(0),
        "w": np.full((48, 48, 1, 1), 127, np.int8),
        "w_scale": np.float32(1),
        "w_zero": np.int8(0),
        "y_scale": np.float32(48 * 255 * 127 / 200),
        "y_zero": np.uint8(0),
    }
    node = onnx.helper.make_node("QLinearConv", ["x", *values], ["y"])
    return _graph(node, onnx.TensorProto.UINT8, [1, 48, 8, 8], values)


def _graph(
    node: onnx.NodeProto, dtype: int, shape: list[int], constants: Mapping[str, Any] | None = None
) -> bytes:
    """A graph of one node from x to y, both of this type and shape."""
    x, y = (onnx.helper.make_tensor_value_info(name, dtype, shape) for name in "xy")
    tensors = [onnx.numpy_helper.from_array(np.asarray(v), n) for n, v in (constants or {}).items()]
    graph = onnx.helper.make_graph([node], "", [x], [y], tensors)
    opset = onnx.helper.make_opsetid("", 18)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10)
    return bytes(model.SerializeToString())


def _open_session(data: bytes, provider: str) -> Any:
    """A session on exactly this provider.

    Raises:
        BackendError: ONNX Runtime refuses the graph or would use another provider.
    """
    import onnxruntime as ort

    try:
        session = ort.InferenceSession(data, session_options(), providers=[provider])
    except Exception as error:  # its exceptions share no base class but this
        raise BackendError(f"ONNX Runtime {ort.__version__} refuses the graph: {error}") from error
    used = session.get_providers()[0]
    # The GPU build quietly falls back to the CPU where CUDA does not work.
    if used != provider:
        raise BackendError(
            f"ONNX Runtime gave {used} instead of {provider}: CUDA or cuDNN does not work here; "
            "see `hfdn doctor`, or ask for backend onnxruntime"
        )
    return session


def open_model(model: Bundle, precision: str, device: str) -> "OnnxRuntimeBackend":
    """Open one precision of a bundle on a device ("cpu" or "cuda")."""
    return OnnxRuntimeBackend(model, graph_for(precision, device), device)


class OnnxRuntimeBackend:
    """An ONNX Runtime session with one graph of a bundle, on exactly one provider.

    Raises:
        BundleError: the bundle has no such graph or its file was changed.
        GateError: the graph did not pass its gates.
        BackendError: ONNX Runtime refuses the graph or would use another provider.
    """

    def __init__(self, bundle: Bundle, graph: str, device: str) -> None:
        self.name = "onnxruntime" if device == "cpu" else f"onnxruntime-{device}"
        self.scale = bundle.manifest.scale
        self._entry = bundle.entry(graph)
        self.session = _open_session(bundle.read_model(graph), _PROVIDERS[device])

    def run(self, lr: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Backend.run`."""
        try:
            (sr,) = self.session.run([self._entry.output.name], {self._entry.input.name: lr})
        except Exception as error:
            raise BackendError(
                f"ONNX Runtime failed on an input of {lr.shape[3]}×{lr.shape[2]}: {error}"
            ) from error
        return np.asarray(sr)

    def close(self) -> None:
        """See `Backend.close`."""
        del self.session
