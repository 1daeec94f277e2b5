"""Opened backends, shared by tests."""

from functools import cache

from hfdn_deploy import Upscaler
from tests.helpers.paths import ROOT


@cache
def opened(kind, scale):
    backend, precision = kind
    checkpoint = ROOT / "checkpoints" / f"hfdn_x{scale}.safetensors"
    model = checkpoint if backend == "torch" else scale
    return Upscaler.load(model, backend, precision, tile=None).backend
