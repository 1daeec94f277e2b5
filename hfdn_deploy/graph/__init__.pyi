from .derived import FOR_OPENVINO, KEEPS_VALUES, for_openvino
from .halo import halo_of
from .image import (
    CHANNELS,
    DTYPES,
    INPUT,
    LAYOUTS,
    NETWORK,
    OUTPUT,
    PixelFormat,
    image_graph,
    network_in,
)
from .parts import (
    INSIDE,
    PARTS,
    POOLED,
    is_global_pool,
    part_of,
    pooled_tensor,
    split_graphs,
    statistics_graph,
    tile_graph,
)
from .rows import pixels_by_rows
from .tiny import OPSET, tiny_model
from .view import GraphView, attributes_of, rewired

__all__ = [
    "CHANNELS",
    "DTYPES",
    "FOR_OPENVINO",
    "INPUT",
    "INSIDE",
    "KEEPS_VALUES",
    "LAYOUTS",
    "NETWORK",
    "OPSET",
    "OUTPUT",
    "PARTS",
    "POOLED",
    "GraphView",
    "PixelFormat",
    "attributes_of",
    "for_openvino",
    "halo_of",
    "image_graph",
    "is_global_pool",
    "network_in",
    "part_of",
    "pixels_by_rows",
    "pooled_tensor",
    "rewired",
    "split_graphs",
    "statistics_graph",
    "tile_graph",
    "tiny_model",
]
