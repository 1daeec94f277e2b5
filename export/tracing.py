"""Conversion of a PyTorch module to a tidy ONNX graph."""

import ast
import io
import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

import onnx
import torch
from onnx import numpy_helper

from export.rewrites import DeployHFDN
from hfdn_deploy.graph import OPSET, attributes_of
from hfdn_deploy.network import HFDN

# ONNX Runtime 1.17 and tools of its age cannot read newer versions, and nothing needs them.
IR_VERSION = 8
INPUT, OUTPUT = "lr", "sr"


def to_onnx(network: HFDN) -> onnx.ModelProto:
    """Return the fp32 graph of a network: rewritten, dynamic in batch, height and width, one file.

    Nodes and their outputs bear the names of the modules they come from, such as
    `hfms.0.adu.convs.1`, which makes messages about a node readable.
    """
    return module_to_onnx(DeployHFDN(network), 1)


def module_to_onnx(module: torch.nn.Module, channels: int) -> onnx.ModelProto:
    """Return the graph of a module that upscales (N, channels, H, W), named as in `to_onnx`."""
    batch, height, width = (torch.export.Dim(name) for name in ("batch", "height", "width"))
    with _quiet():
        program = torch.onnx.export(
            module,
            (torch.rand(2, channels, 48, 56),),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes={"lr": {0: batch, 2: height, 3: width}},
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    model.ir_version = IR_VERSION
    _pool_globally(model.graph)
    _rename(model.graph)
    _strip(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def _pool_globally(graph: onnx.GraphProto) -> None:
    """Replace means over height and width by GlobalAveragePool, which older tools support."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "ReduceMean" and attributes_of(node).get("keepdims", 1):
            axes = constants.get(node.input[1]) if len(node.input) > 1 else None
            if axes is not None and sorted(axes % 4) == [2, 3]:
                node.op_type = "GlobalAveragePool"
                del node.input[1:], node.attribute[:]
    read = {name for node in graph.node for name in node.input}
    unread = [tensor for tensor in graph.initializer if tensor.name not in read]
    for tensor in unread:
        graph.initializer.remove(tensor)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's notes on packages that this network does not use."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _rename(graph: onnx.GraphProto) -> None:
    """Name nodes, their outputs and the weights after the modules they come from."""
    outputs = {value.name for value in graph.output}
    new_names: dict[str, str] = {}
    count: Counter[str] = Counter()
    for node in graph.node:
        metadata = {entry.key: entry.value for entry in node.metadata_props}
        scopes = metadata.get("pkg.torch.onnx.name_scopes")
        if scopes is None or node.op_type == "LeakyRelu":
            # PyTorch's exporter made the node from others, or it belongs to the node before.
            module = new_names[node.input[0]]
        else:
            module = ast.literal_eval(scopes)[-2].removeprefix("network.").removeprefix("network")
        # A convolution bears the module's name alone; other nodes append their operator.
        parts = [module] if node.op_type.startswith("Conv") else [module, node.op_type.lower()]
        stem = ".".join(part for part in parts if part)
        count[stem] += 1
        name = stem if count[stem] == 1 else f"{stem}.{count[stem]}"
        node.name = name
        for i, output in enumerate(node.output):
            new_name = name if len(node.output) == 1 else f"{name}.{i}"
            new_names[output] = output if output in outputs else new_name
    for initializer in graph.initializer:
        initializer.name = new_names.setdefault(
            initializer.name, initializer.name.removeprefix("network.")
        )
    for node in graph.node:
        node.input[:] = [new_names.get(name, name) for name in node.input]
        node.output[:] = [new_names.get(name, name) for name in node.output]


def _strip(model: onnx.ModelProto) -> None:
    """Remove metadata that describes this machine or may contradict a later edit."""
    model.producer_name, model.producer_version = "hfdn_deploy", ""
    del model.metadata_props[:], model.graph.metadata_props[:], model.graph.value_info[:]
    for item in (*model.graph.node, *model.graph.initializer):
        del item.metadata_props[:]
        item.doc_string = ""
    for value in (*model.graph.input, *model.graph.output):
        del value.metadata_props[:]
