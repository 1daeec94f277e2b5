"""The recorded quality of HFDN, and the weights that a table's figures belong to."""

import json
from collections.abc import Iterable
from pathlib import Path

from hfdn_deploy.bundle import Bundle, Manifest

# What the command of docs/results/quality.md printed.
RECORD = Path(__file__).parent / "results" / "quality.json"
WEIGHTS = "Weights (SHA-256 of the checkpoint): "


def method_name(precision: str, ensemble: bool = False) -> str:
    """Return what tables call a precision of HFDN, such as "HFDN+ int8" for an ensemble."""
    return f"HFDN{'+' * ensemble}{'' if precision == 'fp32' else f' {precision}'}"


def recorded(manifest: Manifest, set_name: str, precision: str) -> float | None:
    """Return the PSNR in dB that `RECORD` has for a set and these weights, if it has it."""
    wanted = (set_name, manifest.scale, method_name(precision), manifest.weights)
    for row in json.loads(RECORD.read_text()):
        if (row["set"], row["scale"], row["method"], row["weights"]) == wanted:
            return float(row["psnr"])
    return None


def weights_of(bundles: Iterable[Bundle]) -> str:
    """Return the line that names the weights below a table of HFDN's quality."""
    return WEIGHTS + ", ".join(f"×{x.manifest.scale} {x.manifest.weights}" for x in bundles)
