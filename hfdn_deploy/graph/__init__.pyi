from .derived import FOR_OPENVINO, KEEPS_VALUES, for_openvino
from .halo import halo_of
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
    "FOR_OPENVINO",
    "INSIDE",
    "KEEPS_VALUES",
    "OPSET",
    "PARTS",
    "POOLED",
    "GraphView",
    "attributes_of",
    "for_openvino",
    "halo_of",
    "is_global_pool",
    "part_of",
    "pixels_by_rows",
    "pooled_tensor",
    "rewired",
    "split_graphs",
    "statistics_graph",
    "tile_graph",
    "tiny_model",
]
