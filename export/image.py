"""Export of a bundle's image graph to a file, checked against Python's pixels."""

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

# INT8 dialect by the backend that a file is for.
ENGINES = {"onnxruntime": "cpu", "openvino": "openvino", "tensorrt": "cuda"}
# In older opsets, operators of the network have another meaning.
LEAST_OPSET = 13
# Largest difference from Python's pixels by dtype: a level or two, or the rounding of floats.
_LIMITS = {"uint8": 1.0, "uint16": 2.0, "float16": 1e-3, "float32": 1e-5}
_OF_LUMA = 1e-6
# Height and width of the crops of photographs that the graph is judged on.
_CROP = (48, 64)
# Largest fixed size.
_MOST_PIXELS = 2**22


def export_image_graph(
    bundle: Bundle,
    output: Path,
    precision: str = "fp32",
    engine: str = "onnxruntime",
    pixels: PixelFormat | None = None,
    opset: int = OPSET,
) -> float:
    """Write the image graph of a bundle; the file appears only if the graph passes its gate.

    Args:
        bundle: the bundle of the network.
        output: the ONNX file.
        precision: one of the bundle's precisions.
        engine: backend that the file is for, a key of `ENGINES`; INT8 has a dialect for each.
        pixels: format of the input and the output.
        opset: from `LEAST_OPSET` to `OPSET`.

    Returns:
        The largest difference of a pixel, see `judge`.

    Raises:
        InputError: the opset is not supported, the size is too large to be judged, or the output
            has another suffix, lies in the bundle or cannot be written.
        BundleError, GateError: see `make_image_graph`.
    """
    if not LEAST_OPSET <= opset <= OPSET:
        raise InputError(
            f"opset {opset} is not supported; choose one from {LEAST_OPSET} to {OPSET}."
        )
    if pixels and pixels.size and math.prod(pixels.size) > _MOST_PIXELS:
        width, height = pixels.size
        raise InputError(
            f"an image of {width}×{height} is too large to judge the graph on", "leave the size out"
        )
    if output.suffix.lower() != ".onnx":
        raise InputError(f"{output} is not the name of an ONNX file; let it end in .onnx.")
    if output.resolve().parent == bundle.path.resolve():
        raise InputError(f"{output} would lie in the bundle", "name a file outside it")
    graph = graph_for(precision, ENGINES[engine])
    with replaced(output) as temporary:  # which fails at once if it cannot be written
        model, furthest = make_image_graph(bundle, graph, pixels, opset)
        temporary.write_bytes(model.SerializeToString())
    return furthest


def make_image_graph(
    bundle: Bundle, graph: str, pixels: PixelFormat | None = None, opset: int = OPSET
) -> tuple[onnx.ModelProto, float]:
    """Return the image graph around a graph of a bundle, and its difference from `judge`.

    Raises:
        BundleError, GateError: the bundle has no such graph, or it did not pass its gates.
        GateError: the image graph differs from Python's pixels by more than a level.
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
    """Return the same graph in an older opset, for consumers that need it.

    Raises:
        GateError: one of its operators differs in that opset.
    """
    copy = GraphView(model).changed()
    del copy.opset_import[:]
    copy.opset_import.append(helper.make_opsetid("", opset))
    try:
        onnx.checker.check_model(copy, full_check=True)
    except Exception as error:  # the checker's errors share no base class but this
        raise GateError(f"the graph is not valid in opset {opset}: {error}") from None
    return copy


def judge(
    model: onnx.ModelProto, network: onnx.ModelProto, scale: int, pixels: PixelFormat
) -> float:
    """Compare an image graph with `ImagePlanes` around its network.

    Both run the network on the graph's own luma: a difference in luma's last bit is not an error of
    the graph, but would change quantised results by whole levels.

    Returns:
        The largest difference of a pixel, in levels, or on the scale 0..1 for floats.

    Raises:
        GateError: the graph has another network inside, or differs by more than a level.
    """
    nodes, tensors = network_in(model)
    if nodes != list(network.graph.node) or tensors != GraphView(network).tensors:
        raise GateError("the network in the image graph is not the bundle's; export it again.")
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
            raise GateError(
                f"the image graph gives {upscaled.dtype} {upscaled.shape}, not {wanted.dtype} "
                f"{wanted.shape}."
            )
        worst = max(worst, float(np.abs(upscaled.astype(np.float64) - wanted).max()))
    for what, found, limit in (
        ("luma", of_luma, _OF_LUMA),
        ("image", worst, _LIMITS[pixels.dtype]),
    ):
        if not found <= limit:
            raise GateError(
                f"the {what} of the image graph differs from Python's by up to {found:.2g}, "
                f"allowed {limit:g}."
            )
    return worst


def _cases(pixels: PixelFormat) -> Iterator[Image]:
    """Yield images (N, H, W, C) for a format: noise of odd shapes, and photographs."""
    rng = np.random.default_rng(0)
    channels = CHANNELS[pixels.channels]
    shapes = [(shape[0], *shape[2:]) for shape in SHAPES.values()]
    height, width = _CROP
    if pixels.size:
        width, height = pixels.size
        shapes = [(1, height, width)]
    for shape in shapes:
        yield _of_type(rng.random((*shape, channels)), pixels)
    # If the fixed size is larger than a crop, one photograph shows enough.
    most = 1 if height * width > math.prod(_CROP) else None
    for photograph in [*photographs().values()][:most]:
        top, left = (length // 3 for length in photograph.shape[:2])
        crop = photograph[top : top + height, left : left + width]
        crop = crop.reshape(*crop.shape[:2], -1)[..., [0, -1, -1][:channels]]
        missing = height - crop.shape[0], width - crop.shape[1]
        crop = np.pad(crop, ((0, missing[0]), (0, missing[1]), (0, 0)), "symmetric")
        yield _of_type(crop[None] / 255, pixels)


def _of_type(values: NDArray[np.float64], pixels: PixelFormat) -> Image:
    """Convert values in [0, 1] to a format's dtype; floats are rounded to half precision."""
    dtype = "float32" if pixels.dtype.startswith("float") else pixels.dtype
    numbers = values * WHITE[dtype]
    if dtype == "float32":
        return numbers.astype(np.float16).astype(np.float32)
    return np.rint(numbers).astype(dtype)


def _laid_out(images: Image, pixels: PixelFormat) -> NDArray[np.float32]:
    """Return images (N, H, W, C), RGB or grey, in the graph's layout, channel order and dtype."""
    if pixels.channels == "bgr":
        images = images[..., ::-1]
    if pixels.layout == "nchw":
        images = images.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(images, pixels.dtype)
