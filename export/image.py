"""The image graph of a bundle as a file: held to what Python does around the same network."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from export.describe import describe
from export.parity import SHAPES
from export.sessions import open_outputs
from hfdn_deploy.atomic import replaced
from hfdn_deploy.bench import photographs
from hfdn_deploy.bundle import Bundle, graph_for
from hfdn_deploy.errors import GateError, InputError
from hfdn_deploy.graph import (
    CHANNELS,
    NETWORK,
    OPSET,
    OUTPUT,
    GraphView,
    PixelFormat,
    image_graph,
    network_in,
)
from hfdn_deploy.images import WHITE, Image, ImagePlanes

# The dialect of each engine that a file can be for.
ENGINES = {"onnxruntime": "cpu", "openvino": "openvino", "tensorrt": "cuda"}
# With less, operators of the network mean something else.
LEAST_OPSET = 13
# By dtype, how far a pixel may lie from Python's: a level, or what halves and floats differ by.
_LIMITS = {"uint8": 1.0, "uint16": 2.0, "float16": 1e-3, "float32": 1e-5}
_OF_LUMA = 1e-6
# Height and width of the crops of photographs that it is judged on.
_CROP = (48, 64)
# Of a fixed size.
_MOST_PIXELS = 2**22


def export_image_graph(
    bundle: Bundle,
    output: Path,
    precision: str = "fp32",
    engine: str = "onnxruntime",
    pixels: PixelFormat | None = None,
    opset: int = OPSET,
) -> float:
    """Write the image graph of a bundle; the file appears only if it passed its gate.

    Args:
        bundle: holds the network.
        output: the ONNX file.
        precision: of the bundle's.
        engine: that the file is for, of `ENGINES`; INT8 has a dialect for each.
        pixels: what goes in and comes out.
        opset: from `LEAST_OPSET` to `OPSET`.

    Returns:
        See `judge`.

    Raises:
        InputError: there is no such opset, the size is too large to be judged, or the output is in
            the bundle or cannot be written.
        BundleError, GateError: see `make_image_graph`.
    """
    if not LEAST_OPSET <= opset <= OPSET:
        raise InputError(f"there is no opset {opset} for it; choose {LEAST_OPSET} to {OPSET}.")
    if pixels and pixels.size and math.prod(pixels.size) > _MOST_PIXELS:
        width, height = pixels.size
        raise InputError(
            f"an image of {width}×{height} is too large to judge the graph on", "leave the size out"
        )
    if output.resolve().parent == bundle.path.resolve():
        raise InputError(f"{output} would lie in the bundle", "name a place outside of it")
    graph = graph_for(precision, ENGINES[engine])
    model, furthest = make_image_graph(bundle, graph, pixels, opset)
    with replaced(output) as temporary:
        temporary.write_bytes(model.SerializeToString())
    return furthest


def make_image_graph(
    bundle: Bundle, graph: str, pixels: PixelFormat | None = None, opset: int = OPSET
) -> tuple[onnx.ModelProto, float]:
    """The image graph around a graph of a bundle, which passed its gate, and what `judge` says.

    Raises:
        BundleError, GateError: the bundle has no such graph, or it did not pass its gates.
        GateError: the image graph is further from Python's pixels than a level.
    """
    pixels = pixels or PixelFormat()
    network = onnx.load_model_from_string(bundle.read_model(graph))
    scale = bundle.manifest.scale
    model = with_opset(image_graph(network, scale, pixels), opset)
    furthest = judge(model, network, scale, pixels)
    describe(model, graph, scale, bundle.manifest.checkpoint_sha256, network)
    model.metadata_props.add(key="hfdn.pixels", value=str(pixels))
    return model, furthest


def with_opset(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """The same graph for consumers that know no newer operators.

    Raises:
        GateError: one of its operators is another in that opset.
    """
    copy = GraphView(model).changed()
    del copy.opset_import[:]
    copy.opset_import.append(helper.make_opsetid("", opset))
    try:
        onnx.checker.check_model(copy, full_check=True)
    except Exception as error:  # the checker's errors share no base class but this
        raise GateError(f"the graph cannot be of opset {opset}: {error}") from None
    return copy


def judge(
    model: onnx.ModelProto, network: onnx.ModelProto, scale: int, pixels: PixelFormat
) -> float:
    """Hold an image graph to `ImagePlanes` around its network.

    The network reads the graph's own luma both times: a difference in the last bit, which is no
    error of the graph, would make what is quantised jump by levels.

    Returns:
        The largest difference of a pixel: in levels, or of 1 for floats.

    Raises:
        GateError: it has another network inside, or differs by more than a level.
    """
    nodes, tensors = network_in(model)
    if nodes != list(network.graph.node) or tensors != GraphView(network).tensors:
        raise GateError("the network in the image graph is not the bundle's; export it anew.")
    (lr,), (sr,) = (
        [value.name for value in side] for side in (network.graph.input, network.graph.output)
    )
    run, run_network = open_outputs(model, [OUTPUT, NETWORK + lr]), open_outputs(network, [sr])
    of_luma = worst = 0.0
    for images in _cases(pixels):
        upscaled, lumas = run(_laid_out(images, pixels))
        planes = [ImagePlanes(image) for image in images]
        expected = []
        for each, luma in zip(planes, lumas, strict=True):
            of_luma = max(of_luma, float(np.abs(each.luma - luma[0]).max()))
            (large,) = run_network(luma[None])
            expected.append(np.concatenate(list(each.with_luma([large[0, 0]]))))
        wanted = _laid_out(np.stack(expected), pixels)
        if (upscaled.shape, upscaled.dtype) != (wanted.shape, wanted.dtype):
            raise GateError(f"the image graph gives {upscaled.dtype} {upscaled.shape}.")
        worst = max(worst, float(np.abs(upscaled.astype(np.float64) - wanted).max()))
    for what, found, limit in (
        ("luma", of_luma, _OF_LUMA),
        ("image", worst, _LIMITS[pixels.dtype]),
    ):
        if not found <= limit:
            raise GateError(f"its {what} is up to {found:.2g} from Python's (≤ {limit:g}).")
    return worst


def _cases(pixels: PixelFormat) -> Iterator[Image]:
    """Images (N, H, W, C) of a format: noise of odd shapes, and photographs."""
    rng = np.random.default_rng(0)
    channels = CHANNELS[pixels.channels]
    shapes = [(shape[0], *shape[2:]) for shape in SHAPES.values()]
    height, width = _CROP
    if pixels.size:
        width, height = pixels.size
        shapes = [(1, height, width)]
    for shape in shapes:
        yield _of_type(rng.random((*shape, channels)), pixels)
    # Of a size that is larger than a crop, one has seen enough of everything.
    most = 1 if height * width > math.prod(_CROP) else None
    for photograph in [*photographs().values()][:most]:
        top, left = (length // 3 for length in photograph.shape[:2])
        crop = photograph[top : top + height, left : left + width]
        crop = crop.reshape(*crop.shape[:2], -1)[..., [0, -1, -1][:channels]]
        missing = height - crop.shape[0], width - crop.shape[1]
        crop = np.pad(crop, ((0, missing[0]), (0, missing[1]), (0, 0)), "symmetric")
        yield _of_type(crop[None] / 255, pixels)


def _of_type(values: NDArray[np.float64], pixels: PixelFormat) -> Image:
    """Values in [0, 1] as numbers of a format's dtype, floats as what halves can be."""
    dtype = "float32" if pixels.dtype.startswith("float") else pixels.dtype
    numbers = values * WHITE[dtype]
    if dtype == "float32":
        return numbers.astype(np.float16).astype(np.float32)
    return np.rint(numbers).astype(dtype)


def _laid_out(images: Image, pixels: PixelFormat) -> NDArray[np.float32]:
    """Images (N, H, W, C), RGB or grey, as the graph takes or gives them."""
    if pixels.channels == "bgr":
        images = images[..., ::-1]
    if pixels.layout == "nchw":
        images = images.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(images, pixels.dtype)
