from .builder import build_engine, optimization_profile
from .cache import (
    cached_engine,
    copy_engine,
    device_here,
    holds,
    resolve_targets,
)
from .contents import OPENVINO, CacheEntry, cache_entries, remove_entry
from .engine import Engine, open_engine
from .flavour import FLAVOURS, choose_flavour, why_unavailable
from .folders import cache_folder, is_own, make_own
from .loaded import LoadedEngine
from .runner import SLOTS, EngineRunner
from .sidecar import EngineManifest, check_device, read_sidecar, sidecar_path
from .spec import ENGINE_SUFFIXES, BuildSpec, Shape, ShapeProfile, presets

__all__ = [
    "ENGINE_SUFFIXES",
    "FLAVOURS",
    "OPENVINO",
    "SLOTS",
    "BuildSpec",
    "CacheEntry",
    "Engine",
    "EngineManifest",
    "EngineRunner",
    "LoadedEngine",
    "Shape",
    "ShapeProfile",
    "build_engine",
    "cache_entries",
    "cache_folder",
    "cached_engine",
    "check_device",
    "choose_flavour",
    "copy_engine",
    "device_here",
    "holds",
    "is_own",
    "make_own",
    "open_engine",
    "optimization_profile",
    "presets",
    "read_sidecar",
    "remove_entry",
    "resolve_targets",
    "sidecar_path",
    "why_unavailable",
]
