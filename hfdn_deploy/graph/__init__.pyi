from .halo import attributes_of, constant_values, halo_of
from .parts import (
    FOR_OPENVINO,
    INSIDE,
    KEEPS_VALUES,
    PARTS,
    POOLED,
    for_openvino,
    is_global_pool,
    part_of,
    pooled_tensor,
    split_graphs,
    statistics_graph,
    tile_graph,
)

__all__ = [
    "FOR_OPENVINO",
    "INSIDE",
    "KEEPS_VALUES",
    "PARTS",
    "POOLED",
    "attributes_of",
    "constant_values",
    "for_openvino",
    "halo_of",
    "is_global_pool",
    "part_of",
    "pooled_tensor",
    "split_graphs",
    "statistics_graph",
    "tile_graph",
]
