"""ONNX graphs: run, probed and damaged."""

import numpy as np
import onnx
import onnxruntime as ort

from hfdn_deploy.backends import session_options
from hfdn_deploy.bundle import pretrained
from hfdn_deploy.graph import GraphView

GRAPHS = ["fp32", "fp16", "int8", "int8-cpu", "int8-openvino", "int8-openvino-7bit"]


def load_graph(name, scale=4):
    """A graph of a shipped bundle, or one that is derived from it."""
    return onnx.load_model_from_string(pretrained(scale).read_model(name))


def run_all(model, **feeds):
    """The outputs, computed as the runtime does."""
    data, providers = model.SerializeToString(), ["CPUExecutionProvider"]
    return ort.InferenceSession(data, session_options(), providers=providers).run(None, feeds)


def run(model, **feeds):
    """The first output."""
    return run_all(model, **feeds)[0]


def with_output(model, name):
    """The graph with one output, a tensor of its own."""
    return GraphView(model).changed(outputs=[onnx.ValueInfoProto(name=name)])


def damage(model, name, change):
    for tensor in model.graph.initializer:
        if tensor.name == name:
            values = onnx.numpy_helper.to_array(tensor).copy()
            change(values)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, name))
            return
    raise AssertionError(f"no {name}")


def scale_by_four(values):
    values *= 4


def set_nan(values):
    values.flat[0] = np.nan
