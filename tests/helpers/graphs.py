"""ONNX graphs: run, probed and damaged."""

import numpy as np
import onnx
import onnxruntime as ort

from hfdn_deploy.backends import session_options


def run_all(model, **feeds):
    """The outputs, computed as the runtime does."""
    data, providers = model.SerializeToString(), ["CPUExecutionProvider"]
    return ort.InferenceSession(data, session_options(), providers=providers).run(None, feeds)


def run(model, **feeds):
    """The first output."""
    return run_all(model, **feeds)[0]


def with_output(model, name):
    """The graph with one output, a tensor of its own."""
    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    del probed.graph.output[:]
    probed.graph.output.append(onnx.ValueInfoProto(name=name))
    return probed


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
