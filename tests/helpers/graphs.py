"""ONNX graphs to run, probe and damage."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from hfdn_deploy.backends import session_options
from hfdn_deploy.bundle import pretrained
from hfdn_deploy.graph import FOR_OPENVINO, GraphView

GRAPHS = ["fp32", "fp16", "int8", "int8-cpu", *FOR_OPENVINO]


def load_graph(name: str, scale: int = 4) -> onnx.ModelProto:
    """Return a graph of a shipped bundle, or a graph derived from it."""
    return onnx.load_model_from_string(pretrained(scale).read_model(name))


def run_all(model: onnx.ModelProto, **feeds: NDArray[Any]) -> list[NDArray[Any]]:
    """Return the outputs of a graph, computed with the session options of the runtime."""
    data, providers = model.SerializeToString(), ["CPUExecutionProvider"]
    session = ort.InferenceSession(data, session_options(), providers=providers)
    outputs: list[NDArray[Any]] = session.run(None, feeds)
    return outputs


def run(model: onnx.ModelProto, **feeds: NDArray[Any]) -> NDArray[Any]:
    """Return the first output of a graph."""
    return run_all(model, **feeds)[0]


def with_output(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """Return a copy of the graph whose only output is the tensor of this name."""
    return GraphView(model).changed(outputs=[onnx.ValueInfoProto(name=name)])


def damage(model: onnx.ModelProto, name: str, change: Callable[[NDArray[Any]], None]) -> None:
    """Change the values of a constant of the graph in place."""
    for tensor in model.graph.initializer:
        if tensor.name == name:
            values = onnx.numpy_helper.to_array(tensor).copy()
            change(values)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, name))
            return
    raise AssertionError(f"the graph has no constant {name}")


def scale_by_four(values: NDArray[Any]) -> None:
    """Multiply values by four, which is wrong but plausible."""
    values *= 4


def set_nan(values: NDArray[Any]) -> None:
    """Set the first value to NaN."""
    values.flat[0] = np.nan
