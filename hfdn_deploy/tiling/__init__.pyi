from .joining import LumaSource, pooled_mean, upscale, upscale_whole
from .luma import CLOSED, LumaUpscaler, Progress
from .memory import WHOLE, WORTH_PREPARING, Footprint, Plan, bleeding, resizing
from .planning import Planner
from .tiles import STEP, Tile, area, count_tiles, cut, window

__all__ = [
    "CLOSED",
    "STEP",
    "WHOLE",
    "WORTH_PREPARING",
    "Footprint",
    "LumaSource",
    "LumaUpscaler",
    "Plan",
    "Planner",
    "Progress",
    "Tile",
    "area",
    "bleeding",
    "count_tiles",
    "cut",
    "pooled_mean",
    "resizing",
    "upscale",
    "upscale_whole",
    "window",
]
