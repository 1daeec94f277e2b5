"""PyTorch module to a tidy ONNX graph, and what can be read off that graph."""

import ast
import io
import logging
import math
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from fractions import Fraction

import onnx
import torch

from export.rewrites import DeployHFDN
from hfdn_deploy.network.hfdn import HFDN

OPSET = 18
INPUT, OUTPUT = "lr", "sr"


def to_onnx(network: HFDN) -> onnx.ModelProto:
    """The fp32 graph of a network: rewritten, dynamic in batch, height and width, one file.

    Nodes and their outputs bear the names of the modules they come from, such as
    `hfms.0.adu.convs.1`, so that a message about a node can be understood.
    """
    batch, height, width = (torch.export.Dim(name) for name in ("batch", "height", "width"))
    with _quiet():
        program = torch.onnx.export(
            DeployHFDN(network),
            (torch.rand(2, 1, 12, 14),),
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
    _rename(model.graph)
    _strip(model)
    onnx.checker.check_model(model, full_check=True)
    return model


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
        scopes = ast.literal_eval(metadata["pkg.torch.onnx.name_scopes"])
        module = scopes[-2].removeprefix("network.").removeprefix("network")
        if node.op_type == "LeakyRelu":
            module = new_names[node.input[0]]
        # A module is named after its convolution; whatever else it computes says its kind.
        parts = [module] if node.op_type.startswith("Conv") else [module, node.op_type.lower()]
        stem = ".".join(part for part in parts if part)
        count[stem] += 1
        name = stem if count[stem] == 1 else f"{stem}.{count[stem]}"
        node.name = name
        for output in node.output:
            new_names[output] = output if output in outputs else name
    for initializer in graph.initializer:
        initializer.name = new_names.setdefault(
            initializer.name, initializer.name.removeprefix("network.")
        )
    for node in graph.node:
        node.input[:] = [new_names.get(name, name) for name in node.input]
        node.output[:] = [new_names.get(name, name) for name in node.output]


def _strip(model: onnx.ModelProto) -> None:
    """Remove what says something of this machine or may contradict a later edit."""
    model.producer_name, model.producer_version = "hfdn_deploy", ""
    del model.metadata_props[:], model.graph.metadata_props[:], model.graph.value_info[:]
    for item in (*model.graph.node, *model.graph.initializer):
        del item.metadata_props[:]
        item.doc_string = ""
    for value in (*model.graph.input, *model.graph.output):
        del value.metadata_props[:]


def halo(model: onnx.ModelProto, scale: int) -> int:
    """Input pixels around an output pixel's own that can reach it, global pooling aside.

    Walks the graph, adding each node's reach in units of input pixels: half a kernel at the
    resolution where it stands, and for a transposed convolution the farthest input pixel
    that a phase reads.
    """
    reach: dict[str, Fraction] = {}
    zoom: dict[str, int] = {}
    for value in model.graph.input:
        reach[value.name], zoom[value.name] = Fraction(0), 1
    for node in model.graph.node:
        sources = [name for name in node.input if name in reach]
        if not sources:
            continue
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        before = max(zoom[name] for name in sources)
        after, added = before, Fraction(0)
        if node.op_type == "Conv":
            added = Fraction(max(attributes["kernel_shape"]) // 2, before)
        elif node.op_type == "ConvTranspose":
            after = before * attributes["strides"][0]
            added = Fraction(_transposed_reach(attributes), before)
        elif node.op_type == "DepthToSpace":
            after = before * attributes["blocksize"]
        pooled = is_global_pool(node)
        for name in node.output:
            reach[name] = Fraction(0) if pooled else max(reach[s] for s in sources) + added
            zoom[name] = after
    output = model.graph.output[0].name
    assert zoom[output] == scale
    return math.ceil(reach[output])


def _transposed_reach(attributes: dict[str, list[int]]) -> int:
    kernel, stride = attributes["kernel_shape"][0], attributes["strides"][0]
    padding = attributes["pads"][0]
    # Output phase o reads input i where o + padding - i * stride is a tap of the kernel.
    read = [
        (phase + padding - tap) // stride
        for phase in range(stride)
        for tap in range(kernel)
        if (phase + padding - tap) % stride == 0
    ]
    return max(map(abs, read))


def is_global_pool(node: onnx.NodeProto) -> bool:
    """Whether a node takes a mean over the whole image."""
    return node.op_type in ("GlobalAveragePool", "ReduceMean")
