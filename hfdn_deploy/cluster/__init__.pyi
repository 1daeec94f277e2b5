from .planning import plan
from .ray import run
from .results import ImageResult
from .storage import locate

__all__ = [
    "ImageResult",
    "locate",
    "plan",
    "run",
]
