"""Graphs for tiles, cut from the graphs of a bundle on loading.

Every output pixel depends on a mean over the whole image. For tiles, the mean is therefore gathered
first, tile by tile (`statistics_graph`), and then given to each tile (`tile_graph`). Where memory
allows, the second graph continues from the features of the first (`split_graphs`). All have the
weights and the tensors of the graph that they are cut from; image, sums and mean are fp32.
"""

from collections.abc import Collection, Mapping, Sequence

import onnx
from onnx import TensorProto, ValueInfoProto, helper

from hfdn_deploy.errors import BundleError, first_line
from hfdn_deploy.graph.image import image_graph
from hfdn_deploy.graph.view import GraphView

INSIDE, SUMS, POOLED = "inside", "sums", "pooled"

# The graphs made from a bundle's graph, with their inputs beside the image.
PARTS = {"whole": (), "image": (), "statistics": (INSIDE,), "tile": (POOLED,)}


def is_global_pool(node: onnx.NodeProto) -> bool:
    """Return whether a node takes a mean over the whole image."""
    return node.op_type in ("GlobalAveragePool", "ReduceMean")


def pooled_tensor(model: onnx.ModelProto) -> str | None:
    """Return the name of the mean over the whole image that a graph takes; None without a mean.

    Raises:
        BundleError: the graph takes several means.
    """
    names = [node.output[0] for node in model.graph.node if is_global_pool(node)]
    if len(names) > 1:
        raise BundleError(f"the graph pools in {' and '.join(names)}; at most one can be tiled.")
    return names[0] if names else None


def part_of(data: bytes, part: str, scale: int) -> bytes:
    """Return the ONNX file of one of `PARTS`, made from a bundle's ONNX file of this scale.

    Raises:
        BundleError: the part needs one mean over the whole image, and the graph takes none or
            several.
    """
    if part == "whole":
        return data
    model = onnx.load_model_from_string(data)
    if part == "image":
        return bytes(image_graph(model, scale).SerializeToString())
    pooled = pooled_tensor(model)
    if pooled is None:
        raise BundleError("the graph takes no mean over the image; its tiles need no other graph.")
    cut = {"statistics": statistics_graph, "tile": tile_graph}[part]
    return bytes(cut(model, pooled).SerializeToString())


def statistics_graph(model: onnx.ModelProto, pooled: str) -> onnx.ModelProto:
    """Return a graph of the sums that, divided by the number of pixels, are the pooled mean.

    Its inputs are the graph's own, `lr` (N, 1, H, W), and `inside` (N, 1, H, W), 1 where a pixel
    counts and 0 where another tile counts it. Its output is `sums` (N, C, 1, 1), a sum of fp32
    numbers in every precision.

    Args:
        model: a bundle's graph.
        pooled: its `hfdn_deploy.bundle.manifest.ModelFile.pooled`.

    Raises:
        BundleError: `pooled` is not a mean over the whole image.
    """
    return _before(model, pooled, {})


def tile_graph(model: onnx.ModelProto, pooled: str) -> onnx.ModelProto:
    """Return a graph with its pooled mean, `pooled` (N, C, 1, 1) in fp32, as a second input.

    Args and errors as for `statistics_graph`.
    """
    return _after(model, pooled, {})


def split_graphs(model: onnx.ModelProto, pooled: str) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Return a statistics graph with features as further outputs, and a graph that continues.

    The features (N, C, H, W), in the types that the graph computes them in, are all that the second
    graph needs from the first; its inputs are `lr`, `pooled` and the features.

    Args and errors as for `statistics_graph`.
    """
    features = _features(model, pooled)
    return _before(model, pooled, features), _after(model, pooled, features)


def _features(model: onnx.ModelProto, pooled: str) -> dict[str, ValueInfoProto]:
    """Return the tensors computed before the pooling that later nodes read, too."""
    view = GraphView(model)
    before = {node.output[0]: node for node in view.needed([_pool(view, pooled).input[0]])}
    features = []
    for node in view.nodes:
        if node.output[0] in before or node.output[0] == pooled:
            continue
        for name in filter(before.__contains__, node.input):
            maker = before[name]
            # The 8-bit tensor has a quarter of the size.
            is_quantized = maker.op_type == "DequantizeLinear" and maker.input[0] in before
            features.append(maker.input[0] if is_quantized else name)
    return _known(model, features)


def _before(
    model: onnx.ModelProto, pooled: str, features: Mapping[str, ValueInfoProto]
) -> onnx.ModelProto:
    """Return `statistics_graph` with these features as outputs."""
    view = GraphView(model)
    source = _pool(view, pooled).input[0]
    (lr,) = view.inputs
    batch, _, height, width = (d.dim_param or d.dim_value for d in lr.type.tensor_type.shape.dim)
    inside = helper.make_tensor_value_info(INSIDE, TensorProto.FLOAT, [batch, 1, height, width])
    sums = _vector(model, pooled, SUMS)
    counted_from, counted = f"{source}.fp32", f"{source}.{INSIDE}"
    spatial = helper.make_tensor("spatial_axes", TensorProto.INT64, [2], [2, 3])
    nodes = [
        helper.make_node("Cast", [source], [counted_from], counted_from, to=TensorProto.FLOAT),
        helper.make_node("Mul", [counted_from, INSIDE], [counted], counted),
        helper.make_node("ReduceSum", [counted, spatial.name], [SUMS], SUMS, keepdims=1),
    ]
    cut = view.changed(
        nodes=[*view.nodes, *nodes],
        constants=view.tensors | {spatial.name: spatial},
        inputs=[lr, inside],
        outputs=[sums, *features.values()],
    )
    return GraphView(cut).pruned()


def _after(
    model: onnx.ModelProto, pooled: str, features: Mapping[str, ValueInfoProto]
) -> onnx.ModelProto:
    """Return `tile_graph` with these features as inputs."""
    view = GraphView(model)
    source = _pool(view, pooled).input[0]
    (lr,) = view.inputs
    given = _vector(model, pooled, POOLED)
    # The pooled tensor has the type of its source, which CastLike copies.
    like = helper.make_node("CastLike", [POOLED, source], [pooled], pooled)
    nodes = [
        like if node.output[0] == pooled else node
        for node in view.nodes
        if node.output[0] not in features
    ]
    cut = view.changed(nodes=nodes, inputs=[lr, given, *features.values()])
    return GraphView(cut).pruned()


def _pool(view: GraphView, pooled: str) -> onnx.NodeProto:
    node = view.makers.get(pooled)
    if node is not None and is_global_pool(node):
        return node
    raise BundleError(f"the graph takes no mean {pooled!r} over the image; export it again.")


def _known(model: onnx.ModelProto, names: Collection[str]) -> dict[str, ValueInfoProto]:
    """Return types and shapes (N, C, H, W) of tensors inside a graph, in the order given."""
    try:
        inferred = onnx.shape_inference.infer_shapes(model)
    except Exception as error:  # the errors of onnx share no other base class
        raise BundleError(
            f"the shapes in the graph cannot be inferred ({first_line(error)}); export the bundle "
            "again."
        ) from None
    values: Sequence[ValueInfoProto] = inferred.graph.value_info
    found = {v.name: v for v in values if len(v.type.tensor_type.shape.dim) == 4}
    for name in names:
        if name not in found:
            raise BundleError(f"the shape of {name!r} is not known; export the bundle again.")
    return {name: found[name] for name in names}


def _vector(model: onnx.ModelProto, pooled: str, name: str) -> ValueInfoProto:
    """Return an input or output in fp32 with the shape of the pooled tensor."""
    dims = _known(model, [pooled])[pooled].type.tensor_type.shape.dim
    shape = [dim.dim_param or dim.dim_value for dim in dims]
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
