"""Metadata of an ONNX file, for users who have the file without its bundle."""

import onnx
from onnx import helper

from hfdn_deploy.graph import halo_of, pooled_tensor

# Backends by the dialect that the name of an INT8 graph ends in.
_ENGINES = {
    "cpu": "ONNX Runtime on a CPU",
    "openvino": "OpenVINO",
    "": "TensorRT, and ONNX Runtime on a GPU",
}


def describe(
    model: onnx.ModelProto,
    graph: str,
    scale: int,
    checkpoint_sha256: str,
    network: onnx.ModelProto | None = None,
) -> None:
    """Write a description of a graph into its `metadata_props`, in place.

    Args:
        model: the network, or a graph around it.
        graph: name of the network's graph, one of `GRAPH_NAMES` or `DERIVED`.
        scale: upscaling factor.
        checkpoint_sha256: hash of the file that the weights come from.
        network: the network inside `model`, if `model` is an image graph.
    """
    network = network or model
    precision, _, dialect = graph.partition("-")
    facts = {
        "scale": scale,
        "precision": precision,
        "graph": graph,
        "engines": _ENGINES[dialect] if precision == "int8" else "any",
        "luma": "Y of BT.601 in studio range, 0 to 1 for 0 to 255",
        "halo": f"{halo_of(network, scale)} pixels of the input",
        "pools": "over the whole image" if pooled_tensor(network) else "nothing",
        "checkpoint_sha256": checkpoint_sha256,
        "license": "MIT",
        "source": "HFDN (ICIP 2020), exported by hfdn_deploy",
    }
    helper.set_model_props(model, {f"hfdn.{name}": str(value) for name, value in facts.items()})
