"""The command `hfdn doctor`: installed packages, and backends that work or why they do not."""

import argparse
import platform
from typing import Any

from hfdn_deploy.cli.printing import print_facts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--json", action="store_true", help="machine-readable output")


def run(args: argparse.Namespace) -> None:
    """Print the diagnosis."""
    args.report |= _diagnose()
    if not args.json:
        print_facts(args.report)


def _automatic() -> str:
    """Return what `--precision auto` runs at the default scale, and why."""
    from hfdn_deploy.backends import open_backend
    from hfdn_deploy.bundle import pretrained
    from hfdn_deploy.errors import HFDNError

    try:
        backend, choice = open_backend("auto", pretrained(4), "auto")
    except HFDNError as error:
        return str(error)
    backend.close()
    return choice


def _diagnose() -> dict[str, Any]:
    """Return JSON-ready facts: platform, package versions, backends, models, problems."""
    from hfdn_deploy import backends
    from hfdn_deploy.bench import PACKAGES, package_version
    from hfdn_deploy.bundle import pretrained_scales
    from hfdn_deploy.images import FORMATS
    from hfdn_deploy.machine import cpus, free_memory

    packages = {name: package_version(name) for name in PACKAGES}
    problems = []
    if packages["onnxruntime"] and packages["onnxruntime-gpu"]:
        problems.append(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other: "
            "pip uninstall onnxruntime onnxruntime-gpu, then install only the package you need"
        )
    if not packages["onnxruntime"] and not packages["onnxruntime-gpu"]:
        problems.append(
            "ONNX Runtime is not installed: pip install 'hfdn-deploy[cpu]', or 'hfdn-deploy[gpu]' "
            "for an NVIDIA GPU"
        )
    reasons = {name: backends.why_unavailable(name) for name in backends.NAMES}
    if (packages["onnxruntime"] or packages["onnxruntime-gpu"]) and reasons["onnxruntime"]:
        problems.append(str(reasons["onnxruntime"]))
    if not pretrained_scales():
        problems.append("the package contains no pretrained bundle: reinstall hfdn-deploy")
    return {
        "platform": f"{platform.platform()}, Python {platform.python_version()}",
        "cpus": cpus(),
        "free_memory_mib": free_memory() // 2**20,
        "packages": packages,
        "backends": {name: str(reason or "works") for name, reason in reasons.items()},
        "automatic_precision": _automatic(),
        "formats": {kind.name: kind.why_missing() or "works" for kind in FORMATS.values()},
        "pretrained_scales": list(pretrained_scales()),
        "problems": problems,
    }
