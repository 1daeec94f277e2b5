"""The environment of a measurement: processor, threads, versions, clocks."""

import os
import platform
from contextlib import suppress
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from hfdn_deploy.machine import cpus

PACKAGES = (
    "hfdn-deploy",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "opencv-python-headless",
    "opencv-python",
    "pillow",
    "torch",
    "safetensors",
    "openvino",
    "av",
    "cuda-bindings",
    "tensorrt",
    "tensorrt-rtx-cu13-bindings",
)
# The processor features that decide which kernels run.
FLAGS = (
    "avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16",
    "amx_tile", "amx_int8", "amx_bf16", "asimddp", "i8mm", "bf16",
)  # fmt: skip


def environment_facts() -> dict[str, Any]:
    """Return JSON-ready facts; a fact that cannot be read is None."""
    facts = _cpuinfo()
    flags = set((facts.get("flags") or facts.get("Features") or "").split())
    versions = {name: package_version(name) for name in PACKAGES}
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "processor": facts.get("model name") or platform.processor() or platform.machine(),
        "flags": [name for name in FLAGS if name in flags],
        "cores": psutil.cpu_count(logical=False),
        "threads": cpus(),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "load": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "memory_bytes": psutil.virtual_memory().total,
        "packages": {name: found for name, found in versions.items() if found},
        "gpu": gpu_state(),
    }


def package_version(package: str) -> str | None:
    """Return the version of a package; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def gpu_state() -> dict[str, Any] | None:
    """Return clocks, power and throttle reasons of the first NVIDIA GPU, by nvidia-ml-py."""
    try:
        nvml: Any = import_module("pynvml")
        nvml.nvmlInit()
    except Exception:  # not installed, or no driver, an error of a type in the module
        return None
    try:
        device = nvml.nvmlDeviceGetHandleByIndex(0)
        return {
            "name": str(nvml.nvmlDeviceGetName(device)),
            "driver": str(nvml.nvmlSystemGetDriverVersion()),
            "sm_clock_mhz": nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_SM),
            "memory_clock_mhz": nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_MEM),
            "power_w": nvml.nvmlDeviceGetPowerUsage(device) / 1000,
            "throttle_reasons": nvml.nvmlDeviceGetCurrentClocksThrottleReasons(device),
        }
    except nvml.NVMLError as error:
        return {"error": str(error)}
    finally:
        nvml.nvmlShutdown()


def _cpuinfo() -> dict[str, str]:
    """Return the first processor's lines of /proc/cpuinfo."""
    block = (_read("/proc/cpuinfo") or "").split("\n\n")[0]
    pairs = (line.partition(":") for line in block.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _read(path: str) -> str | None:
    with suppress(OSError):
        return Path(path).read_text().strip()
    return None
