from .memory import Footprint, TileChoice, Tiling
from .tiles import STEP, LumaSource, Tile, area, plan, pooled_mean, upscale, upscale_whole, window

__all__ = [
    "STEP",
    "Footprint",
    "LumaSource",
    "Tile",
    "TileChoice",
    "Tiling",
    "area",
    "plan",
    "pooled_mean",
    "upscale",
    "upscale_whole",
    "window",
]
