from .planning import ImagePlan, networks_for
from .threads import mapped
from .upscaler import Upscaler

__all__ = ["ImagePlan", "Upscaler", "mapped", "networks_for"]
