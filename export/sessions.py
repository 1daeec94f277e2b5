"""Graphs as functions of arrays, in ONNX Runtime on the CPU."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from hfdn_deploy import tiling
from hfdn_deploy.backends import OnnxRuntimeBackend, session_options
from hfdn_deploy.errors import BackendError, GateError
from hfdn_deploy.graph import GraphView, tiny_model

Array = NDArray[np.float32]
Run = Callable[[Array], Array]

# Side of the tiles for judging a graph, so small that the grid's longest inputs have inner tiles.
TILE = 16


def candidate(model: onnx.ModelProto) -> Run:
    """Return a graph as a function from input to output, with the runtime's session options.

    Raises:
        GateError: ONNX Runtime refuses the graph, or an input when the function is called.
    """
    run = _open(model, session_options())
    return lambda lr: run(lr)[0]


def run_tiled(backend: OnnxRuntimeBackend, lr: Array) -> list[Array]:
    """Return outputs for one input (1, 1, H, W), joined from tiles; NaN if the backend fails.

    There is an output for each way of tiling: features before the mean are computed twice or kept.
    """
    height, width = lr.shape[2:]
    parts = backend.tiling
    tiles = tiling.cut(height, width, TILE, parts.halo)
    outputs = []
    for split in (None, parts.split) if parts.split else (None,):
        try:
            bands = list(tiling.upscale(parts, lr[0, 0], tiles, split=split))
        except BackendError:
            bands = [np.full((backend.scale * height, backend.scale * width), np.nan, np.float32)]
        outputs.append(np.concatenate(bands)[None, None])
    return outputs


def open_outputs(model: onnx.ModelProto, tensors: Sequence[str]) -> Callable[[Array], list[Array]]:
    """Return a graph, not optimised, as a function from its input to the tensors named."""
    outputs = [onnx.ValueInfoProto(name=name) for name in tensors]
    probed = GraphView(model).changed(outputs=outputs)
    options = session_options()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return _open(probed, options)


def run_node(node: onnx.NodeProto, inputs: Sequence[NDArray[Any]]) -> Array:
    """Return the fp32 output of one node by itself; an input may be an array of any type."""
    feeds = dict(zip(node.input, inputs, strict=True))
    types = {name: (x.dtype, x.shape) for name, x in feeds.items()}
    model = tiny_model([node], types, {node.output[0]: (np.float32, None)})
    return np.asarray(_session(model, session_options()).run(None, feeds)[0])


def _open(model: onnx.ModelProto, options: ort.SessionOptions) -> Callable[[Array], list[Array]]:
    name = model.graph.input[0].name
    session = _session(model, options)

    def run(lr: Array) -> list[Array]:
        try:
            return [np.asarray(x) for x in session.run(None, {name: lr})]
        except Exception as error:  # ONNX Runtime's exceptions share no other base class
            raise GateError(f"the graph fails on an input of shape {lr.shape}: {error}") from None

    return run


def _session(model: onnx.ModelProto, options: ort.SessionOptions) -> ort.InferenceSession:
    try:
        return ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise GateError(f"ONNX Runtime refuses the graph: {error}") from None
