from .planning import ImagePlan, networks_for
from .upscaler import Upscaler

__all__ = ["ImagePlan", "Upscaler", "networks_for"]
