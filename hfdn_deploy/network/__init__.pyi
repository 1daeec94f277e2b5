from .blocks import HEAD_WIDTH, WIDTH, AdaptiveDenseUnit, BicubicUpscale, activate, conv3x3
from .bundles import load_bundle
from .checkpoints import load_checkpoint, save_checkpoint
from .complexity import count_complexity
from .config import METADATA_KEY, HFDNConfig
from .hfdn import HFDN

__all__ = [
    "HEAD_WIDTH",
    "HFDN",
    "METADATA_KEY",
    "WIDTH",
    "AdaptiveDenseUnit",
    "BicubicUpscale",
    "HFDNConfig",
    "activate",
    "conv3x3",
    "count_complexity",
    "load_bundle",
    "load_checkpoint",
    "save_checkpoint",
]
