"""The command `hfdn doctor`: installed packages, and backends that work or why they do not."""

import argparse
import platform
from collections import defaultdict
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata
from typing import Any

from hfdn_deploy.cli.printing import print_facts

# Extras for development, whose packages the runtime does not use.
_NOT_RUN = {"dev", "suites", "test"}
_HEADLESS = "opencv-python-headless"


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


def _unloadable(reasons: dict[str, Any]) -> Iterator[str]:
    """Yield why installed libraries of backends do not load; a missing GPU is not a problem.

    Args:
        reasons: results of `why_unavailable`, by backend.
    """
    from hfdn_deploy.backends import BACKENDS
    from hfdn_deploy.bench import package_version

    for name, reason in reasons.items():
        spec = BACKENDS[name]
        broken = reason and (spec.device == "cpu" or " cannot be imported (" in reason.reason)
        if broken and any(map(package_version, spec.packages)):
            yield str(reason)


def _outside_bounds() -> Iterator[str]:
    """Yield the packages whose version hfdn-deploy does not declare, and what to do."""
    from packaging.requirements import Requirement

    from hfdn_deploy.bench import package_version

    try:
        facts = metadata("hfdn-deploy")
    except PackageNotFoundError:  # a checkout that is not installed
        return
    extras = ["", *(set(facts.get_all("Provides-Extra") or ()) - _NOT_RUN)]
    taken = defaultdict(list)  # several extras may declare a package, each with its own bounds
    for needed in map(Requirement, facts.get_all("Requires-Dist") or ()):
        marker = needed.marker
        if not marker or any(marker.evaluate({"extra": extra}) for extra in extras):
            taken[needed.name].append(needed.specifier)
    taken["opencv-python"] = taken[_HEADLESS]
    for name, specifiers in taken.items():
        found = package_version(name)
        if found and not any(one.contains(found, prereleases=True) for one in specifiers):
            wanted = f"{name}{specifiers[0]}"
            yield f"{name} is {found}, and hfdn-deploy needs {wanted}: pip install '{wanted}'"


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
    if packages["opencv-python"] and packages[_HEADLESS]:
        problems.append(
            f"opencv-python and {_HEADLESS} are both installed and overwrite each other: "
            f"pip uninstall opencv-python {_HEADLESS}, then install only one of them"
        )
    if not packages["onnxruntime"] and not packages["onnxruntime-gpu"]:
        problems.append(
            "ONNX Runtime is not installed: pip install 'hfdn-deploy[cpu]', or 'hfdn-deploy[gpu]' "
            "for an NVIDIA GPU"
        )
    reasons = {name: backends.why_unavailable(name) for name in backends.NAMES}
    problems += dict.fromkeys([*_unloadable(reasons), *_outside_bounds()])  # each once
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
